"""Whether a bank still is what it says: checksums, pictures, encoder and a sample of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from phosphene._saving import jsonable, verify_folder
from phosphene.data._ids import resolve_ids
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import PhospheneError, listing
from phosphene.stimuli._address import content_hash, versions
from phosphene.stimuli._bank_files import bank_digest
from phosphene.stimuli._recompute import compare, from_pictures, from_texts
from phosphene.stimuli.encoders import get_encoder
from phosphene.stimuli.text import get_text_encoder
from phosphene.stimuli.verification import Check, Outcome, Verification

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank


def verify(
    bank: FeatureBank,
    stimuli: StimulusSet | None,
    encoder: Any,
    *,
    sample: int,
    seed: int,
) -> Verification:
    """Check a bank; see :meth:`FeatureBank.verify`."""
    checks = [_files(bank), _content(bank)]
    names: list[str] | None = []
    if bank.provenance.get("kind") != "text":
        pictures, names = _pictures(bank, stimuli)
        checks.append(pictures)
    made, check = _encoder(bank, encoder)
    checks.append(check)
    if made is None:
        why = check.message if check.outcome == "not checkable" else "the encoder is another one"
        checks.append(Check("vectors", "not checkable", message=why))
    elif names is None:
        checks.append(Check("vectors", "not checkable", message="no pictures to compute them from"))
    elif bank.provenance.get("kind") == "text":
        checks.append(compare(bank, from_texts(bank, made), sample, seed))
    else:
        assert stimuli is not None
        checks.append(compare(bank, from_pictures(bank, stimuli, names, made), sample, seed))
    return Verification(tuple(checks))


def _files(bank: FeatureBank) -> Check:
    what = "files"
    if bank.folder is None:
        return Check(what, "not checkable", message="the bank was made in memory")
    try:
        manifest = verify_folder(bank.folder, full=True)
    except (PhospheneError, OSError) as error:
        return Check(what, "failed", message=str(error))
    return Check(what, "passed", len(manifest["files"]))


def _content(bank: FeatureBank) -> Check:
    what = "content"
    known = bank.__dict__.get("hash")
    if known is None:
        return Check(what, "not checkable", message="the bank's hash was not taken before")
    try:
        found = bank_digest(bank)
    except PhospheneError as error:
        return Check(what, "failed", message=str(error))
    if found != known:
        message = f"the hash of ids, vectors and provenance is {found}, not {known}"
        return Check(what, "failed", len(bank.arrays), message=message)
    return Check(what, "passed", len(bank.arrays))


def _pictures(bank: FeatureBank, stimuli: StimulusSet | None) -> tuple[Check, list[str] | None]:
    """The check, and the names of the bank's stimuli in the set."""
    what = "pictures"
    if stimuli is None:
        return Check(what, "not checkable", message="give the stimuli to check them"), None
    available = stimuli.ids
    try:
        names = [available[row] for row in resolve_ids(bank.ids, available)]
    except PhospheneError as error:
        return Check(what, "failed", message=str(error)), None
    recorded = dict(zip(names, bank.stimuli["sha256"].tolist(), strict=True))
    known = [name for name in names if recorded[name]]
    if not known:
        why = "the bank does not know the content of its pictures"
        return Check(what, "not checkable", message=why), names
    changed, broken = [], []
    for name in known:
        try:
            if content_hash(stimuli, name) != recorded[name]:
                changed.append(name)
        except PhospheneError as error:
            broken.append(f"{name} ({error.what})")
    problems = [f"content changed: {listing(changed)}"] if changed else []
    problems += [f"unreadable: {listing(broken)}"] if broken else []
    outcome: Outcome = "failed" if problems else "passed"
    return Check(what, outcome, len(known), message="\n".join(problems)), names


def _encoder(bank: FeatureBank, encoder: Any) -> tuple[Any, Check]:
    """The encoder that vectors can be computed with again, None if there is none."""
    what = "encoder"
    origin = bank.provenance.get("encoder") or {}
    kind, name = bank.provenance.get("kind"), str(origin.get("id", ""))
    if revision := bank.provenance.get("revision"):
        name = f"{name}@{revision}"
    if kind not in ("extracted", "text"):
        why = f"vectors of kind {kind!r} were not computed by phosphene"
        return None, Check(what, "not checkable", message=why)
    try:
        if kind == "text":
            made: Any = get_text_encoder(name if encoder is None else encoder)
        else:
            precision = str(bank.provenance.get("precision", "auto"))
            made = get_encoder(name if encoder is None else encoder, precision=precision)
    except (PhospheneError, OSError, TypeError) as error:
        why = getattr(error, "what", None) or str(error)
        return None, Check(what, "not checkable", message=f"{why}\ngive the encoder to check it")
    found = {"id": made.id, "weights_hash": made.weights_hash}
    if kind == "extracted":
        found |= {"preprocessing": made.preprocessing, "precision": made.precision}
    stated = {**origin, "precision": bank.provenance.get("precision")}
    lines = [
        f"{name} is {value}, the bank says {stated.get(name)}"
        for name, value in found.items()
        if jsonable(stated.get(name)) != jsonable(value)
    ]
    if lines:
        return None, Check(what, "failed", len(found), message="\n".join(lines))
    return made, Check(what, "passed", len(found), message=_circumstances(bank, made))


def _circumstances(bank: FeatureBank, encoder: Any) -> str:
    """What differs between then and now and may change the last digits."""
    lines = []
    then, now = bank.provenance.get("versions") or {}, versions(getattr(encoder, "packages", ()))
    for name in sorted(set(then) & set(now)):
        if then[name] != now[name]:
            lines.append(f"extracted with {name} {then[name]}, checked with {now[name]}")
    device = getattr(encoder, "device", "cpu")
    here, there = str(getattr(device, "type", device)), bank.provenance.get("device")
    if there is not None and here.partition(":")[0] != there:
        lines.append(f"extracted on {there}, checked on {here}")
    return "\n".join(lines)
