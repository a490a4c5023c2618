"""What a command can say instead of doing its work: one line and an exit code."""


class CommandError(Exception):
    """Ends the command. `exit_code` is 1 when asked in vain, 2 when asked wrongly."""

    exit_code = 1


class UsageError(CommandError):
    """The command line itself can't be carried out."""

    exit_code = 2


class NoServer(CommandError):
    def __init__(self, base_url: str, reason: str) -> None:
        super().__init__(f"no answer from {base_url}: {reason}. Is `adaptry serve` running there?")


class Refused(CommandError):
    """The server said no; `code` is the stable one of its problem details."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        self.status = status
        self.code = code
        super().__init__(f"{detail} [{code}]" if code else f"{detail} (HTTP {status})")


class UploadEnded(CommandError):
    def __init__(self) -> None:
        super().__init__("the server broke the upload off: `adaptry job list` may say why")
