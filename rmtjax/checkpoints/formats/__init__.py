"""Readers of weights, one file for each format.

To read another format, add one file here and one entry to `SIGNS` in rmtjax/checkpoints/signs.py, which
recognises files by their content. The file has one function,

    def read(path: pathlib.Path) -> Contents

which returns the names, shapes and dtypes of all arrays, and for each a function that reads it (see
rmtjax/checkpoints/contents.py). An optional library is imported inside the function, under `guard.optional`,
which says what to install. All other exceptions become one sentence in rmtjax/checkpoints/guard.py. Nothing
is unpickled, except by torch with `weights_only=True`; no file outside of its folder is opened because a file
names it; memory is allocated only for what the file holds. A reader lists in `refused` everything that it
does not read.

Layouts that pack or scale weights, which occur in several of these formats, are in
rmtjax/checkpoints/quantised_layouts.
"""
