"""Corpora as people have them: folders, lists, Lhotse manifests and protocols.

Two pipelines can also be compared where no recording has a reference.
"""

from __future__ import annotations

from pathlib import Path

from samevoice.evaluation.corpora import folders, lhotse, lists, protocols
from samevoice.evaluation.corpus import Corpus, CorpusError


def read(word: str, *, insist: bool = True) -> Corpus:
    """The corpus of that name: ``FILE.yml:Database.Task.Protocol.subset``, a folder or a file.

    Unless one must ``insist`` on references, all recordings may be without.
    """
    path = Path(word)
    if path.is_dir():
        name = path.resolve().name
        found, referenced = folders.read(path, insist)
    elif ".yml:" in word or ".yaml:" in word:
        name = word.rpartition(":")[2]
        found, referenced = protocols.read(word, insist)
    elif word.endswith(lhotse.SUFFIXES):
        name = lhotse.name_of(path)
        found, referenced = lhotse.read(path, insist)
    elif path.suffix in lists.SUFFIXES:
        name = path.stem
        found, referenced = lists.read(path, insist)
    else:
        raise CorpusError(
            f"{word} is no corpus: name a folder of recordings with RTTM files, a list (.lst, "
            ".txt), a Lhotse manifest (.jsonl, .jsonl.gz), or a protocol as "
            "database.yml:Database.SpeakerDiarization.Protocol.test"
        )
    if referenced and not any(len(one.reference) for one in found):
        raise CorpusError(f"nobody speaks in any reference of {word}: there is nothing to score")
    return Corpus(name, tuple(found), referenced)
