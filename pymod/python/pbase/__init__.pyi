from persist import Object

pbase = Object

__all__ = ["pbase"]
