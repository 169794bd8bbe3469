from .cached_session_router import SessionCachedRouter

__all__ = ["SessionCachedRouter"]
