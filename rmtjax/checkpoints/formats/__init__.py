"""Readers of weights, one file a format.

To read another format, add one file here and one line to `SIGNS` in rmtjax/checkpoints/opening.py, which
tells files by their content. The file has one function,

    def read(path: pathlib.Path) -> Contents

which gives the names, shapes and dtypes of all arrays at once and a function that reads each (see
rmtjax/checkpoints/contents.py). It raises InputError, in one sentence, for a file that is damaged or that
needs an optional library which is not installed; the library is imported inside the function. Nothing is
unpickled, but by torch with `weights_only=True`. A reader names in `refused` what it does not read, and never
leaves it out in silence.

Layouts that pack or scale weights inside any of these formats are in rmtjax/checkpoints/quantised_layouts.
"""
