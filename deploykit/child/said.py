"""What somebody else's error says, in one line."""


def said(error: BaseException) -> str:
    """Give an error's kind and the line of it that tells most."""
    return f"{type(error).__name__}: {line_of(error)}"


def line_of(error: BaseException) -> str:
    """Give the line of an error that tells most: the first, but the last of what TorchScript's interpreter says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1 if "TorchScript interpreter" in lines[0] else 0]
