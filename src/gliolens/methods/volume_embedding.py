"""Volume embeddings: a frozen encoder turns slices into vectors, pooling makes a volume of them, a small net decides.

Li and McMillan (Leveraging Volume Embeddings for Glioma Classification). For each series m of a patient

    h_ms = E(x_ms) in R^d,   v_m = pool_s h_ms,   v = [v_1 ; v_2 ; ...],   q = softmax( MLP(v) )

with pool the mean, the maximum or the median of each number over the slices s; or, learnt, sum_s a_s h_s (`attention`).

`paper`  MedImageInsight, T1 with contrast and FLAIR, maximum, MLP of one hidden layer of 200: the best of the 45
         configurations the paper scored on its test set.
`sound`  pooling and series are chosen on inner folds of the training patients; vectors are standardised, classes weigh
         the same and their shares are put back; logistic regression; the encoder that lies in the package.
Every difference and guess is listed in docs/methods/volume-embedding.md.

    gliolens train volume-embedding cohort.csv --target grade --preset sound -o RUN

Needs no tumour mask (the controls beside it do). See docs/results.md for time and scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from gliolens.case import Case, CaseRow, Prediction, Volume
from gliolens.cohorts.splits import kfold
from gliolens.embedding import FRAME_MM, POOLINGS, embed, vectors_of
from gliolens.encoders.catalogue import find_encoder
from gliolens.encoders.encoder import Encoder
from gliolens.errors import ConfigError, ModelError
from gliolens.explain import share_of_most, stacked
from gliolens.io.store import file_hash, read_json, whole_file, write_json
from gliolens.labels import SERIES, SERIES_TITLES
from gliolens.loader import Arrays, Cases
from gliolens.method import Run, changed
from gliolens.progress import Counter, Tick
from gliolens.readers import AttentionReader, PooledReader, series_influence, slice_influence
from gliolens.stats.priors import with_prior

VERSION = 1
"""Raised whenever the same weights would answer otherwise."""

Pooling = Literal["mean", "max", "median", "attention"]


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        series: series that are encoded; with `choose`, those to choose from.
        encoder: name from `encoders.catalogue`, such as built-in, medimageinsight or timm:resnet50.a1_in1k.
        weights: file or folder of the encoder's weights, where it needs one.
        offline: never open a connection to fetch weights.
        pooling: how slices become a volume; with `choose`, the mean, the maximum or the median is chosen instead.
        choose: choose pooling and series on inner folds of the training patients.
        folds: how many inner folds.
        hidden: width of the hidden layer; 0 is logistic regression.
        standardise: give every number of a vector mean 0 and standard deviation 1 among training patients.
        balanced: let every class weigh the same, and put the class shares back into the answer.
    """

    series: tuple[str, ...] = SERIES
    encoder: str = "built-in"
    weights: Path | None = None
    offline: bool = False
    pooling: Pooling = "max"
    choose: bool = True
    folds: int = 4
    hidden: int = 0
    standardise: bool = True
    balanced: bool = True

    def __post_init__(self) -> None:
        if self.folds < 2 or self.hidden < 0:
            raise ConfigError(
                f"folds is {self.folds} and hidden is {self.hidden}; expected folds from 2, hidden from 0"
            )

    @classmethod
    def preset(cls, name: str) -> Self:
        """`paper` or `sound`."""
        if name == "sound":
            return cls()
        return cls(
            series=("t1ce", "flair"), encoder="medimageinsight", choose=False, hidden=200, standardise=False,
            balanced=False,
        )  # fmt: skip

    def scaled(self, scale: str) -> Self:
        """At `demo` scale the built-in encoder, which takes seconds a case."""
        return replace(self, encoder="built-in", weights=None) if scale == "demo" else self


# --- from a case to vectors ------------------------------------------------------------------------------------


def ready(cases: Cases, config: Config, cache: Path, tick: Tick | None = None) -> Sequence[Arrays]:
    """Vectors (S, dim) of each series of each case; see `embedding.embed`."""
    cases = replace(cases, series=config.series, need_mask=False)
    return embed(cases, _encoder(config.encoder, config.weights, config.offline), cache, tick)


_KEPT: dict[tuple[str, str, bool], Encoder] = {}


def _encoder(name: str, weights: Path | None, offline: bool) -> Encoder:
    """The encoder, made once a process: the largest takes seconds to read."""
    key = (name, str(weights), offline)
    if key not in _KEPT:
        _KEPT.clear()  # one at a time is enough, and they are large
        _KEPT[key] = find_encoder(name, weights, offline=offline)
    return _KEPT[key]


# --- learning --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """How vectors of slices become that of a patient.

    Attributes:
        pooling: over slices.
        series: which are joined.
    """

    pooling: Pooling
    series: tuple[str, ...]


def choices(series: Sequence[str]) -> list[Choice]:
    """Each of mean, maximum and median with every set of series that is not empty: 45 for four series."""
    sets = [s for n in range(1, len(series) + 1) for s in combinations(series, n)]
    return [Choice(pooling, s) for s in sets for pooling in POOLINGS]


def learn(
    embedded: Sequence[Arrays], truth: np.ndarray, choice: Choice, config: Config, seed: int, folder: Path
) -> PooledReader | AttentionReader:
    """Fit one configuration to patients (n,) whose classes are 0 to k - 1.

    Args:
        embedded: vectors of their slices.
        truth: their classes.
        choice: pooling and series.
        config: the rest.
        seed: of every random choice.
        folder: where a stopped fit of the attention goes on.
    """
    if choice.pooling == "attention":
        return AttentionReader.learn(
            embedded, truth, choice.series, hidden=config.hidden, balanced=config.balanced, seed=seed, folder=folder,
        )  # fmt: skip
    return PooledReader.learn(
        embedded, truth, choice.pooling, choice.series, hidden=config.hidden, standardise=config.standardise,
        balanced=config.balanced, seed=seed,
    )  # fmt: skip


def choose(cases: Cases, embedded: Sequence[Arrays], config: Config, run: Run) -> dict[Choice, float]:
    """Log loss of each configuration over inner folds, every class weighing the same.

    Raises:
        CohortError: a class has fewer patients than there are folds.
    """
    truth = np.array([run.classes.index(c) for c in cases.classes(run.target)])
    place = {row.case: i for i, row in enumerate(cases.rows)}
    split = kfold(cases.rows, run.target, folds=config.folds, seed=run.seed)
    sides = [[[place[c] for c in ids] for ids in (fold.train, fold.test)] for fold in split.folds]

    def loss(choice: Choice) -> float:
        q = np.zeros((len(truth), len(run.classes)))
        for train, test in sides:
            reader = learn([embedded[i] for i in train], truth[train], choice, config, run.seed, run.folder)
            q[test] = reader([embedded[i] for i in test])
        right = np.log(np.clip(q[np.arange(len(q)), truth], 1e-6, 1.0))
        return -float(np.mean([right[truth == k].mean() for k in np.unique(truth)]))

    return {choice: loss(choice) for choice in choices(config.series)}


def fit(cases: Cases, config: Config, run: Run) -> "Model":
    """Train on cases whose target is known and which have the series.

    Raises:
        CaseError: a case cannot be read.
        CohortError: `choose`, and a class of fewer training patients than inner folds.
    """
    embedded = ready(cases, config, run.cache, Counter("encoding cases"))
    losses = choose(cases, embedded, config, run) if config.choose else {}
    choice = min(losses, key=losses.__getitem__) if losses else Choice(config.pooling, config.series)
    truth = np.array([run.classes.index(c) for c in cases.classes(run.target)])
    reader = learn(embedded, truth, choice, config, run.seed, run.folder)
    counts = np.bincount(truth, minlength=len(run.classes))
    shares = counts / counts.sum() if config.balanced else np.full(len(counts), 1 / len(counts))
    usual = {s: np.mean([np.mean(e[s], axis=0) for e in embedded], axis=0) for s in choice.series}
    encoder = _encoder(config.encoder, config.weights, config.offline).identity
    told = tuple((c.pooling, c.series, loss) for c, loss in losses.items())
    return Model(run.target, run.classes, config, reader, tuple(shares.tolist()), usual, encoder, told)


# --- the fitted model ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Model:
    """A reader of vectors with what it needs to make them.

    Attributes:
        usual: mean vector (dim,) of each series among training patients.
        encoder: identity of the encoder it was trained with.
        tried: pooling, series and inner log loss of every configuration, where one was chosen.
    """

    target: str
    classes: tuple[str, ...]
    config: Config
    reader: PooledReader | AttentionReader
    prior: tuple[float, ...]
    usual: Mapping[str, np.ndarray]
    encoder: str
    tried: tuple[tuple[str, tuple[str, ...], float], ...] = ()

    def answer(self, row: CaseRow, ready: Arrays) -> Prediction:
        """Answer one case: the training's class shares put back, decision by the balanced posterior."""
        q = self.reader([ready])
        p = with_prior(q, np.array(self.prior))[0]
        return Prediction(
            case=row.case,
            method="volume-embedding",
            probabilities={self.target: dict(zip(self.classes, p.tolist(), strict=True))},
            decisions={self.target: self.classes[int(q[0].argmax())]},
        )

    def predict(self, case: Case) -> Prediction:
        """Answer one case, and say what each series adds to the log odds of the decision."""
        embedded = self._embedded(case)
        answer = self.answer(CaseRow(case.id, case.patient), embedded)
        decided = self.classes.index(answer.decisions[self.target])
        added = series_influence(self.reader, embedded, self.usual, decided)
        named = {f"{SERIES_TITLES[s]} (log odds)": value for s, value in added.items()}
        return replace(answer, evidence=dict(sorted(named.items(), key=lambda item: -abs(item[1]))))

    def explain(self, case: Case) -> Mapping[str, Volume]:
        """How much the log odds of the decision fall without each slice, as a share of the most, over the frame.

        With attention there is a second map: how much each slice counts.
        """
        embedded = self._embedded(case)
        if len(embedded["affines"]) < 2:
            return {}  # a volume's one vector, or a single slice: none can be left out
        decided = int(self.reader([embedded])[0].argmax())
        maps = {self.target: slice_influence(self.reader, embedded, decided)}
        if isinstance(self.reader, AttentionReader):
            maps[f"{self.target}_attention"] = self.reader.attention(embedded)
        return {name: _as_volume(values, embedded["affines"]) for name, values in maps.items()}

    def _embedded(self, case: Case) -> Arrays:
        return vectors_of(case, self.reader.series, self._find_encoder())

    def _find_encoder(self) -> Encoder:
        encoder = _encoder(self.config.encoder, self.config.weights, self.config.offline)
        if encoder.identity != self.encoder:
            raise ModelError(
                f"the encoder {self.config.encoder} at hand is not the one this model was trained with; name the same "
                "weights, or train again"
            )
        return encoder

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `card.json`; the encoder is named, not copied."""
        tensors, about = self.reader.arrays()
        tensors |= {f"usual_{s}": torch.from_numpy(np.ascontiguousarray(v)) for s, v in self.usual.items()}
        weights = folder / "weights.safetensors"
        with whole_file(weights) as unfinished:
            save_file(tensors, unfinished)
        config = asdict(self.config) | {"weights": self.config.weights and str(self.config.weights)}
        card = {
            "method": "volume-embedding", "version": VERSION, "target": self.target, "classes": self.classes,
            "config": config, "reader": about, "prior": self.prior, "encoder": self.encoder, "tried": self.tried,
            "sha256": file_hash(weights),
        }  # fmt: skip
        write_json(folder / "card.json", card)


def _as_volume(values: np.ndarray, affines: np.ndarray) -> Volume:
    """A number a slice as a map, constant over each frame, as a share of the most."""
    maps = np.broadcast_to(values[:, None, None], (len(values), FRAME_MM, FRAME_MM))
    return stacked(share_of_most(maps, np.ones(maps.shape, bool)), affines)


def load(folder: Path) -> Model:
    """Bring a saved model back.

    Raises:
        ModelError: the folder does not hold one, or its weights are not those of its card.
    """
    card = read_json(folder / "card.json")
    if card.get("method") != "volume-embedding" or card.get("version") != VERSION:
        found = f"{card.get('method')} version {card.get('version')}"
        raise ModelError(
            f"{folder}: found {found}, expected volume-embedding version {VERSION}; train it again"
        )
    weights = folder / "weights.safetensors"
    if not weights.is_file() or file_hash(weights) != card["sha256"]:
        raise ModelError(f"{weights}: missing, or not the file its card describes; copy the whole run again")
    tensors, given = load_file(weights), card["config"]
    usual = {k.removeprefix("usual_"): v.numpy() for k, v in tensors.items() if k.startswith("usual_")}
    learnt = {k: v for k, v in tensors.items() if not k.startswith("usual_")}
    kind = AttentionReader if card["reader"]["pooling"] == "attention" else PooledReader
    config = changed(Config(), given | {"weights": given["weights"] and Path(given["weights"])})
    tried = tuple((pooling, tuple(series), loss) for pooling, series, loss in card["tried"])
    return Model(
        card["target"], tuple(card["classes"]), config, kind.made(learnt, card["reader"]), tuple(card["prior"]),
        usual, card["encoder"], tried,
    )  # fmt: skip
