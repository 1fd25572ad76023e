"""The site file's JSON Schema and its list of keys, both made from the models.

``python -m cem.config.document site_configs`` writes them anew.
"""

import json
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cem.config.models import SiteFile
from cem.config.scalars import plain, unit_of

SCHEMA_FILE = "site.schema.json"
BEGIN = "<!-- keys: made by python -m cem.config.document site_configs -->"
END = "<!-- end of keys -->"

_BY_TAG = {
    "description": "What a tag names: !env NAME, !env NAME:default, !env with ${NAME:default} inside, !include FILE.",
    "type": "string",
    "pattern": r"^([A-Z_][A-Z0-9_]*(:.*)?|.*\$\{.*|\S+\.ya?ml)$",
}
_OUTSIDE = ("title", "description", "default")


def site_file_schema() -> dict[str, Any]:
    """JSON Schema of a site file, for editors; any value may also come by a tag."""
    schema = SiteFile.model_json_schema()
    definitions = schema.pop("$defs")
    for section in (schema, *definitions.values()):
        section["properties"] = {key: _or_tag(value) for key, value in section["properties"].items()}
    definitions["ByTag"] = _BY_TAG
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Site file, version 1",
        **{key: value for key, value in schema.items() if key != "title"},
        "$defs": dict(sorted(definitions.items())),
    }


def _or_tag(schema: dict[str, Any]) -> dict[str, Any]:
    outside = {key: schema[key] for key in _OUTSIDE if key in schema and key != "title"}
    inner = {key: value for key, value in schema.items() if key not in _OUTSIDE}
    if inner.get("type") == "string" and "pattern" not in inner and "enum" not in inner:
        return {**outside, **inner}
    if "items" in inner:
        inner["items"] = {"anyOf": [inner["items"], {"$ref": "#/$defs/ByTag"}]}
    choices = inner.pop("anyOf", None) or inner.pop("oneOf", None) or [inner]
    return {**outside, "anyOf": [*choices, {"$ref": "#/$defs/ByTag"}]}


def keys_markdown() -> str:
    """Every key of a site file as tables, section by section."""
    told: list[str] = []
    seen: set[type[BaseModel]] = set()
    waiting: list[tuple[str, type[BaseModel]]] = [("", SiteFile)]
    while waiting:
        place, model = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        title = f"`{place}`" if place else "Top level"
        about = " ".join((model.__doc__ or "").split())
        told += [f"### {title}", "", about, "", "| key | type | unit | default | meaning |", "|---|---|---|---|---|"]
        inner: list[tuple[str, type[BaseModel]]] = []
        for key, field in model.model_fields.items():
            told.append(_row(key, field))
            for below in _models(field.annotation):
                kind = below.model_fields.get("kind")
                mark = f" (kind: {get_args(kind.annotation)[0]})" if kind and len(_models(field.annotation)) > 1 else ""
                many = "[]" if _is_many(field.annotation) else ""
                inner.append((f"{place}{'.' if place else ''}{key}{many}{mark}", below))
        told.append("")
        waiting = inner + waiting
    return "\n".join(told)


def _row(key: str, field: FieldInfo) -> str:
    kind = _type(field.annotation)
    bounds = _bounds([*field.metadata, *_inner_metadata(field.annotation)])
    type_text = f"{kind}, {bounds}" if bounds else kind
    unit = unit_of(key) or ""
    return f"| `{key}` | {type_text} | {unit} | {_default(field)} | {field.description or ''} |".replace("  |", " |")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "**required**"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return plain(value)
    if isinstance(value, str):
        return f"`{value}`"
    if isinstance(value, BaseModel):
        return "its defaults"
    return "one with its defaults" if value else "empty"


def _type(wanted: Any) -> str:
    wanted = _bare(wanted)
    if get_origin(wanted) is Literal:
        return " \\| ".join(f"`{choice}`" for choice in get_args(wanted))
    if get_origin(wanted) is tuple:
        return "list"
    if get_origin(wanted) is dict:
        names = get_args(get_args(wanted)[0])
        return "section; keys: " + ", ".join(f"`{name}`" for name in names)
    if get_origin(wanted) in {Union, types.UnionType} or issubclass(wanted, BaseModel):
        return "section"
    return {str: "text", int: "whole number", float: "number", bool: "`true` \\| `false`"}[wanted]


def _bare(wanted: Any) -> Any:
    """Without ``Annotated`` and ``None``."""
    while get_origin(wanted) is Annotated:
        wanted = get_args(wanted)[0]
    if get_origin(wanted) in {Union, types.UnionType}:
        rest = [choice for choice in get_args(wanted) if choice is not types.NoneType]
        return _bare(rest[0]) if len(rest) == 1 else wanted
    return wanted


def _inner_metadata(wanted: Any) -> list[Any]:
    """Bounds written inside ``Annotated[...] | None``."""
    if get_origin(wanted) is Annotated:
        return [
            item for part in get_args(wanted)[1:] for item in (part.metadata if isinstance(part, FieldInfo) else [part])
        ]
    if get_origin(wanted) in {Union, types.UnionType}:
        return [item for choice in get_args(wanted) for item in _inner_metadata(choice)]
    return []


def _bounds(metadata: list[Any]) -> str:
    """Bounds of a number: ``0 to 6300``, ``above 0, to 100``; nothing for anything else."""
    limits = {
        name: value
        for item in metadata
        for name in ("gt", "ge", "le")
        if (value := getattr(item, name, None)) is not None
    }
    if not limits:
        return ""
    low = f"above {plain(limits['gt'])}," if "gt" in limits else plain(limits["ge"])
    return f"{low} to {plain(limits['le'])}"


def _models(wanted: Any) -> list[type[BaseModel]]:
    wanted = _bare(wanted)
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return [wanted]
    return [model for part in get_args(wanted) if part is not Ellipsis for model in _models(part)]


def _is_many(wanted: Any) -> bool:
    return get_origin(_bare(wanted)) is tuple


def main(folder: Path) -> None:
    """Writes the schema and the keys in the README anew."""
    schema = json.dumps(site_file_schema(), indent=2, ensure_ascii=False)
    (folder / SCHEMA_FILE).write_text(schema + "\n", encoding="utf-8")
    readme = folder / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n\n{keys_markdown()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
