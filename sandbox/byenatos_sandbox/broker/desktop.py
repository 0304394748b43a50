"""``python -m byenatos_sandbox.broker.desktop SERVICE USER``: prints an entry of the keyring."""

import sys

from byenatos_sandbox.linux import prctl

__all__ = ["main"]

_PR_SET_DUMPABLE = 4


def main(arguments: list[str]) -> int:
    """Print the entry; a sentence on stderr and status 1 if there is none."""
    prctl(_PR_SET_DUMPABLE, 0)
    service, user = arguments
    try:
        import keyring
    except ImportError:
        sys.stderr.write("the library `keyring` is not installed: pip install 'byenatos[keyring]'\n")
        return 1
    try:
        value = keyring.get_password(service, user)
    except Exception as error:  # noqa: BLE001 - foreign code, with a dozen backends
        sys.stderr.write(f"the keyring cannot be asked: {type(error).__name__}: {error}\n")
        return 1
    if value is None:
        sys.stderr.write(f"the keyring has no entry for {service}/{user}: keyring set {service} {user}\n")
        return 1
    sys.stdout.write(value)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
