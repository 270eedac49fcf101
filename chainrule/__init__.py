"""Write the equation, read its gradient, run it fast."""


def __getattr__(name: str) -> str:
    """Read the version from the installed package when somebody asks for it."""
    if name == "__version__":
        from importlib.metadata import version

        return version("chainrule")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
