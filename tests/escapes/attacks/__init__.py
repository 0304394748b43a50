"""What a hostile driver would try, one function an attack; it runs inside a sandbox, and outside as the control.

``corpus.py`` has all of them, ``driver.py`` makes one.
"""
