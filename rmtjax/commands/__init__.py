"""Commands: their flags, and calls of the libraries below.

Each module has `main(argv=None) -> exit status`. `python -m` finds them by `rmtjax/*/__main__.py`.
"""
