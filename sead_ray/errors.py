"""Errors that a user can cause. Each is one sentence that names the culprit; commands end with exit code 2."""


class InputError(ValueError):
    """Data, configuration or a file that the user gave cannot be used.

    The message is one sentence: what is wrong, with the token, file or key, and where it helps what to change.

    Attributes:
        listing: lines that a command prints above the sentence, where it cannot name everything itself.
    """

    listing: tuple[str, ...] = ()


class StorageError(InputError):
    """A bucket cannot be reached, or refuses: wrong credentials, rights or names, no network, a full disk."""


class RunBusyError(InputError):
    """Another driver works on the same run folder."""


class FencedError(InputError):
    """This driver lost its run folder to another one, or can no longer tell; it publishes nothing more."""


class LabelsPending(Exception):
    """A round waits for annotations (`labels.mode: wait`); not a failure.

    Attributes:
        request: path of the label request.
    """

    def __init__(self, request: str) -> None:
        super().__init__(f"waiting for labels: {request}")
        self.request = request
