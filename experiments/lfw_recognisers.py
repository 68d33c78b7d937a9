"""Clean verification of the named recognisers on LFW View 2, and their speed.

    python experiments/lfw_recognisers.py ../shared/data/lfw/lfw_aligned160.tar dlib fr_feature

Prints AUC [95 % interval over people], equal error rate, TPR at FPR 1e-3 and ms per image, once for
the recogniser as it is and once for the attacker of rung A1 (contrast stretch, mirror average).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from opticaldr.data.lfw import load_lfw, load_pairs
from opticaldr.faces import load_recogniser
from opticaldr.privacy import statistics
from opticaldr.privacy.verification import attack_embedding, pair_scores

BATCH = 64


def main(path: Path, names: list[str]) -> None:
    faces = load_lfw(path)
    pairs = load_pairs(path, faces)
    images = pairs.images
    for name in names:
        recogniser = load_recogniser(name)
        rows = {"plain": [], "stretch + mirror": []}
        seconds = 0.0
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                crops = [faces.image(int(i)) for i in images[start : start + BATCH]]
                photos = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
                begin = time.perf_counter()
                rows["plain"].append(recogniser(photos).double().numpy())
                seconds += time.perf_counter() - begin
                rows["stretch + mirror"].append(attack_embedding(recogniser, photos).numpy())
        for attacker, parts in rows.items():
            table = np.concatenate(parts)
            first = table[np.searchsorted(images, pairs.first)]
            second = table[np.searchsorted(images, pairs.second)]
            scores = pair_scores(first, second, faces, pairs)
            auc = statistics.bootstrap(statistics.auc, scores, replicates=2000, seed=0)
            low, high = auc.ci95
            eer = statistics.value(statistics.equal_error_rate, scores)
            tpr = statistics.value(statistics.true_positive_rate(1e-3), scores)
            print(  # noqa: T201
                f"{name:14} {attacker:17} AUC {auc.value:.4f} [{low:.4f}, {high:.4f}] "
                f"EER {eer:.4f} TPR@1e-3 {tpr:.4f}  {1000 * seconds / len(images):.1f} ms/image",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
