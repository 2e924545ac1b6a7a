"""Commands: flags and wiring, above all libraries. Each module has `main() -> exit status`; the doors are `rmtjax/*/__main__.py`."""
