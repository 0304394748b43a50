"""What both sides of the engine's benchmark are asked, and what they say of it."""

__all__ = ["figures", "prompt"]

_SUBJECTS = ("the sea", "mountains", "bread", "the moon", "rivers", "trees", "music", "clocks")


def prompt(chat: int, number: int) -> str:
    """Return the question of ``chat`` in round ``number``, which nobody has asked before."""
    return f"In round {number}, tell me about {_SUBJECTS[chat]}. Take your time and explain it well."


def figures(tokens: int, begin: float, ends: list[float], cpu_s: float) -> dict[str, float]:
    """Return tokens a second of all chats, the slowest chat's time by the fastest's, and CPU time a token (ms)."""
    times = [end - begin for end in ends]
    count = tokens * len(ends)
    return {"rate": count / max(times), "spread": max(times) / min(times), "cpu": cpu_s * 1000 / count}
