"""Commands: flags and wiring, above all libraries.

Each module has `main(argv=None) -> exit status`. `rmtjax/*/__main__.py` make `python -m` find them.
"""
