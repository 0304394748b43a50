"""The vendors' API formats, one module each: symmetrical codecs between a wire form and the canonical messages.

Pure functions and incremental decoders, without I/O. ``contract`` says what a format is, ``matrix`` what each one can
say, ``adapt`` fits a request to it and tells what that cost.
"""
