"""Tests of the site file."""
