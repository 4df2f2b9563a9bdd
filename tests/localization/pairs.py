"""Pairs that a random model happens to answer worse when they are corrupted: only there is something to trace."""

from dataclasses import replace

import torch

from analysis.localization.forward import Run
from analysis.models import LanguageModel
from analysis.scoring.contrast_pairs import PairBatch, PromptPairs


def with_a_gap(model: LanguageModel, pairs: PromptPairs, metric: str = "log_p") -> PromptPairs:
    """Only the prompts that a random model happens to answer worse when corrupted."""
    batches, count = [], 0
    for batch in pairs.batches:
        clean = Run(model, batch, metric, corrupted=False).score_B
        corrupted = Run(model, batch, metric, corrupted=True).score_B
        rows = torch.where(clean > corrupted)[0]
        if len(rows):
            batches.append(rows_of(batch, rows))
            count += len(rows)
    assert count
    return replace(pairs, batches=tuple(batches), n_prompts=count)


def rows_of(batch: PairBatch, rows: torch.Tensor) -> PairBatch:
    return replace(
        batch,
        clean_BP=batch.clean_BP[rows],
        corrupted_BP=batch.corrupted_BP[rows],
        noise_BPD=None if batch.noise_BPD is None else batch.noise_BPD[rows],
        subject_BP=batch.subject_BP[rows],
        answer_BP=batch.answer_BP[rows],
        contrast_BK=batch.contrast_BK[rows],
        facts=tuple(batch.facts[int(r)] for r in rows),
    )
