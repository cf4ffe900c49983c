"""The one tree of errors. Each message says what, where, expected against found, what to do."""


class BessemerError(Exception):
    """Base of every error that Bessemer raises on a user's mistake or a bad input."""


class ModelFormatError(BessemerError):
    """A model file is missing, truncated, malformed or inconsistent."""


class UnsupportedOperatorError(BessemerError):
    """A model uses operators that Bessemer does not know; lists all of them."""


class ShapeError(BessemerError):
    """Shapes, ranks or dtypes of a node's inputs do not fit together."""


class VerifyError(BessemerError):
    """A graph, loop nest or engine is inconsistent, or a pass changed the answer."""


class PassError(BessemerError):
    """A graph pass failed or was named wrongly."""


class LowerError(BessemerError):
    """A graph node cannot be turned into a tensor expression or loops."""


class ScheduleError(BessemerError):
    """A schedule primitive was applied where it is not legal."""


class CodegenError(BessemerError):
    """Machine code could not be generated."""


class EngineFormatError(BessemerError):
    """An engine file is damaged, hostile, or from a newer format version."""


class TargetError(BessemerError):
    """The engine or kernel does not fit this machine."""


class SettingsError(BessemerError):
    """An option has an unknown name or an illegal value."""


class InputError(BessemerError):
    """A binding at run time has a wrong name, shape, dtype or rank."""


class ExecutionError(BessemerError):
    """A step of an engine failed while running, or a closed context was used."""


class MissingExtraError(BessemerError):
    """An optional package is needed; the message names the extra to install."""


class InternalError(BessemerError):
    """A bug in Bessemer; please report it."""
