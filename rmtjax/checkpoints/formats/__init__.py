"""Readers of weights, one file for each format.

To read another format, add one file here and one entry to `SIGNS` in rmtjax/checkpoints/opening.py, which
recognises files by their content. The file has one function,

    def read(path: pathlib.Path) -> Contents

which returns the names, shapes and dtypes of all arrays, and for each a function that reads it (see
rmtjax/checkpoints/contents.py). It raises InputError, in one sentence, for a file that is damaged or that
needs an optional library which is not installed; the library is imported inside the function. Nothing is
unpickled, except by torch with `weights_only=True`. A reader lists in `refused` everything that it does not
read.

Layouts that pack or scale weights, which occur in several of these formats, are in
rmtjax/checkpoints/quantised_layouts.
"""
