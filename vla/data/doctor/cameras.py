"""Checks of what the cameras saw: nothing, always the same, or with colours exchanged."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from vla.data.doctor.finding import Check, Curve, Finding
from vla.data.doctor.patient import Patient, robust, runs
from vla.data.doctor.pictures import HUES, Track

DARK = 8.0
"""Mean grey value of 255: below it, and without contrast, nothing can be seen."""
BLANK = 3.0
"""Standard deviation of grey values: a picture with less has no edge in it, whatever its colour."""
STILL = 0.02
"""Mean change in grey values of 255: less than the noise of any real sensor."""
CODEC = 0.03
"""Of the usual change: more than a codec makes of one picture shown again, which it may encode in two ways by turns."""
LEAP = 0.3
"""Of the usual change: what a stream that hung begins and ends with, and no codec makes of one picture."""
SHORTEST = 4.0
"""How far the arm moves meanwhile, in usual steps: a slow arm at the edge of the picture changes little."""
SIGMAS = 5.0
APART = 4.0
"""Standard deviations among episodes between what is usual and grey."""
TWIN = 0.4
"""Of how far a picture is from itself with red and blue exchanged."""
MOST = 200
"""Episodes of which each is compared with each."""


def _black(patient: Patient) -> Iterator[Finding]:
    for track in patient.tracks.values():
        blind = _blind(track)
        episodes = {number: np.flatnonzero(blind[rows]) for number, rows in patient.episodes()}
        dark = {number: frames for number, frames in episodes.items() if frames.size}
        if not dark:
            continue
        first = next(iter(dark))
        share = blind.sum() / max(1, np.isfinite(track.spread).sum())
        yield Finding(
            "black camera",
            f"{blind.sum()} pictures ({100 * share:.0f} %) show nothing: grey values "
            f"{np.nanmean(track.brightness[blind]):.0f} "
            "all over; find the cable or cap, and leave the camera or those episodes out",
            () if share > 0.99 else tuple(dark),
            int(dark[first][0]),
            track.name,
            (Curve.of("contrast of the picture", track.spread[patient.recording.episodes[first]]),),
        )


def _stuck(patient: Patient) -> Iterator[Finding]:
    """The picture stays while the arm moves, for longer than it does in most other episodes."""
    for track in patient.tracks.values():
        if not live(track):
            continue
        usual_change = float(np.nanmedian(track.change))
        way, longest = patient.speed / max(float(np.nanmedian(patient.speed)), 1e-9), {}
        for number, rows in patient.episodes():
            unchanged = _unchanged(track.change[rows], usual_change) & ~_blind(track)[rows]  # that is said already
            still = runs(unchanged & (patient.speed[rows] > patient.rest))
            still = [(a, b) for a, b in still if _abrupt(track.change[rows], a, b, usual_change)]
            longest[number] = max(((float(way[rows][a:b].sum()), b - a, a) for a, b in still), default=(0.0, 0, 0))
        usual = float(np.quantile([moved for moved, _, _ in longest.values()], 0.75))
        stuck = {number: run for number, run in longest.items() if run[0] >= max(SHORTEST, 3 * usual)}
        if stuck:
            worst = max(stuck, key=lambda number: stuck[number][0])
            moved, length, frame = stuck[worst]
            rows = patient.recording.episodes[worst]
            yield Finding(
                "stuck camera",
                f"the picture stays the same for {length} frames while the arm goes as far as in {moved:.0f} "
                "usual ones "
                f"(elsewhere {usual:.0f}): the stream hung; leave those stretches out",
                (worst, *(number for number in stuck if number != worst)),
                frame,
                track.name,
                (Curve.of("change of the picture", track.change[rows]), Curve.of("speed", patient.speed[rows])),
            )


def _unchanged(change: np.ndarray, usual: float) -> np.ndarray:
    """Where the picture stays; once in a while a codec refreshes it, which changes it a little for one frame."""
    still = change <= max(STILL, CODEC * usual)
    refreshed = np.zeros_like(still)
    refreshed[1:-1] = still[:-2] & still[2:] & (change[1:-1] < LEAP * usual)
    return still | refreshed


def _abrupt(change: np.ndarray, start: int, stop: int, usual: float) -> bool:
    """Whether the picture moved until the stretch and leaps after it, as a hung stream does.

    In simulation pictures have no noise: where the arm leaves the view they come to rest little by little.
    """
    # Of the first repeated picture a codec may change a little; at the start of an episode nothing is known.
    begins = start <= 2 or float(np.nanmax(change[start - 2 : start])) > LEAP * usual
    return begins and (stop >= len(change) or float(change[stop]) > LEAP * usual)


def _blind(track: Track) -> np.ndarray:
    return (track.spread < BLANK) | ((track.brightness < DARK) & (track.spread < DARK))


def live(track: Track) -> bool:
    """Whether the camera shows anything that changes."""
    changes = track.change[np.isfinite(track.change)]
    return bool(len(changes)) and float(np.quantile(changes, 0.9)) > STILL


def _never_moves(patient: Patient) -> Iterator[Finding]:
    for track in patient.tracks.values():
        seen = np.isfinite(track.change)
        if (
            seen.sum() >= SHORTEST
            and not live(track)
            and (track.spread > BLANK).any()
            and patient.speed[seen].max() > 0
        ):
            yield Finding("stuck camera", "the picture hardly ever changes, though the robot moves", (), 0, track.name)


def _odd_colours(patient: Patient) -> Iterator[Finding]:
    """Episodes that look like the others once red and blue are exchanged."""
    for track in patient.tracks.values():
        episodes = [
            (number, np.nanmean(track.grid[rows], axis=0))
            for number, rows in patient.episodes()
            if np.isfinite(track.spread[rows]).any()
        ]
        if len(episodes) < 5:
            continue
        # How much redder than blue each cell is: exchanging the two turns the sign of this alone.
        warmth = np.stack([(look[..., 0] - look[..., 2]).ravel() for _, look in episodes])
        usual = np.median(warmth, axis=0)
        likeness = warmth @ usual / max(float(usual @ usual), 1e-9)
        middle, sigma = robust(likeness)
        odd = (likeness < middle - SIGMAS * sigma) & (np.abs(likeness + middle) < SIGMAS * sigma) & (likeness < -0.3)
        if odd.any() and middle > APART * sigma:  # not where scenes differ in colour anyway
            numbers = [number for (number, _), is_odd in zip(episodes, odd, strict=True) if is_odd]
            yield Finding(
                "colour order",
                f"{len(numbers)} episodes look like the others with red and blue exchanged (likeness "
                f"{likeness[odd].mean():.2f}, others {middle:.2f} ± {sigma:.2f}): recorded as BGR; exchange "
                "the channels",
                tuple(numbers) if 3 * len(numbers) < len(episodes) else (),
                0,
                track.name,
            )
        elif _in_both_orders(np.stack([look for _, look in episodes[:: -(-len(episodes) // MOST)]])):
            yield Finding(
                "colour order",
                "a third of the episodes and more look like another one with red and blue exchanged: one of the two is "
                "BGR; exchange its channels",
                (),
                0,
                track.name,
            )


def _in_both_orders(looks: np.ndarray) -> bool:
    """Whether a third of all (E, G, G, 3) pictures and more are some other's with red and blue exchanged, and all are
    clearly warm or cold."""
    straight, exchanged = (part.reshape(len(looks), -1) for part in (looks, looks[..., ::-1]))
    apart = np.linalg.norm(exchanged[:, None] - straight[None], axis=2)
    alike = apart.min(1) < TWIN * np.diag(apart)
    warmth = (looks[..., 0] - looks[..., 2]).reshape(len(looks), -1)
    along = np.abs(warmth @ np.linalg.svd(warmth, full_matrices=False)[2][0])
    return bool(alike.mean() >= 1 / 3 and along.min() > 0.3 * np.median(along))


def _named_colours(patient: Patient) -> Iterator[Finding]:
    """What instructions call red should be red, not blue."""
    texts = {entry.number: " ".join(entry.tasks).lower() for entry in patient.recording.entries}
    hues, exchanged = list(HUES), {"red": "blue", "blue": "red", "yellow": "cyan"}
    for track in patient.tracks.values():
        # Vivid pixels by episode, in its own first frame: later the arm may cover them.
        hues_of = {n: track.hues[rows.start] for n, rows in patient.episodes() if rows.start in track.hues}
        gains = []
        for word, other in exchanged.items():
            named = {n: bool(re.search(rf"\b{word}\b", text)) for n, text in texts.items() if n in hues_of}
            if not 3 <= sum(named.values()) <= len(named) - 3:
                continue
            first = np.array([hues_of[n] for n in named])
            is_named = np.array(list(named.values()))
            for hue, sign in ((word, 1.0), (other, -1.0)):
                share = first[:, hues.index(hue)]
                ranks = share.argsort().argsort() / max(1, len(share) - 1)
                contrast = ranks[is_named].mean() - ranks[~is_named].mean()
                error = np.sqrt(ranks.var() * (1 / is_named.sum() + 1 / (~is_named).sum()))
                gains.append((sign * contrast, error))
        if not gains:
            continue
        total, error = sum(gain for gain, _ in gains), np.sqrt(sum(e**2 for _, e in gains))
        if total < -SIGMAS * error:
            yield Finding(
                "colour order",
                f"what instructions call red, blue or yellow looks blue, red or cyan ({-total / error:.0f} "
                "standard errors): "
                "red and blue are exchanged (BGR)",
                (),
                0,
                track.name,
            )


CHECKS = (
    Check("black camera", "pictures with nothing in them", _black, ("pictures",)),
    Check("stuck camera", "a picture that stays while the arm moves", _stuck, ("pictures",)),
    Check("dead camera", "a camera whose picture never changes", _never_moves, ("pictures",)),
    Check("colour order", "episodes with red and blue exchanged", _odd_colours, ("pictures",)),
    Check("named colours", "colours that instructions name", _named_colours, ("pictures",)),
)
