"""The one exception that entry points turn into a line on stderr and exit code 2."""


class UserError(ValueError):
    """A mistake the user can mend; its message is one line that says what is wrong and what to do."""
