"""Which views of a bank a method trains on, and which one it compares with at inference."""

from __future__ import annotations

from collections.abc import Sequence

from phosphene.errors import DataError, PhospheneError, listing
from phosphene.stimuli.views import expand_views


def resolve_views(wanted: Sequence[str] | str, available: Sequence[str]) -> tuple[list[str], str]:
    """The names of the wanted views as the bank writes them, and the view of inference.

    Parameters
    ----------
    wanted : str or sequence of str
        View names in any spelling that `stimuli.views` reads, or names of the bank's own.
    available : sequence of str
        Views of the bank.

    Returns
    -------
    views : list of str
        In the order wanted.
    gallery_view : str
        The middle one: of UBP's three blur levels the middle blur, of one view that view.

    Raises
    ------
    DataError
        If the bank lacks one.

    Examples
    --------
    >>> resolve_views("original", ["original", "text"])
    (['original'], 'original')
    """
    words = [wanted] if isinstance(wanted, str) else [str(word) for word in wanted]
    if not words:
        raise DataError("a decoder needs at least one view", fix='views=("original",)')
    names: list[str] = []
    for word in words:
        if word in available:
            names.append(word)
            continue
        try:
            names.extend(view.name for view in expand_views([word]))
        except PhospheneError:
            names.append(word)
    if missing := [name for name in names if name not in available]:
        raise DataError(
            f"the bank has no vectors of the views {listing(missing)}",
            found=listing(available, limit=12),
            expected=listing(names),
            fix=f"extract the bank with views={words!r}",
        )
    return names, names[len(names) // 2]
