"""The site file: YAML in, ``SiteFile`` and ``core.Site`` out, every problem with its line."""
