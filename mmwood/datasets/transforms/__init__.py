from .loading import LoadImage, LoadSemanticMask

__all__ = ["LoadImage", "LoadSemanticMask"]
