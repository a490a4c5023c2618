"""What a command can say instead of doing its work: one line and an exit code."""


class CommandError(Exception):
    """Ends the command. `exit_code` is 1 when asked in vain, 2 when asked wrongly."""

    exit_code = 1


class UsageError(CommandError):
    """The command line itself can't be carried out."""

    exit_code = 2
