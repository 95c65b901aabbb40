"""Checks that no training dialogue holds a prompt or a name that is held out. Standard library only, a few seconds.

Draws the first part of the training corpus again by its seed, looks for the five standard queries, the suites' prompts and the evaluation's
questions and names, and makes sure that planted ones would have been caught. Exits with 1 and says what was found.
"""

import argparse
import sys

from dialogues import STANDARD_QUERIES, SUITES, Dialogue, HeldOut, Turn, corpus, normal


def planted(held_out: HeldOut) -> list[str]:
    """Texts that the filter must catch."""
    name = sorted(held_out.names)[0] if held_out.names else None
    texts = [q.upper() + " !!" for q in STANDARD_QUERIES] + ["find all   uses of async / await."] + sorted(held_out.prompts)
    return texts + ([f"Please look at {name} now"] if name else [])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=15000)
    args = parser.parse_args()
    held_out, faults = HeldOut(), []
    if not list(SUITES.glob("*.toml")):
        faults.append(f"no suites in {SUITES}")
    missed = [q for q in STANDARD_QUERIES if normal(q) not in held_out.prompts]
    faults += [f"not held out: {q}" for q in missed]
    for text in planted(held_out):
        if not held_out.hits(Dialogue(None, [], [Turn("user", text)])):
            faults.append(f"the filter lets this pass: {text}")
    names, seen = [n.lower() for n in held_out.names], 0
    for one in corpus(args.seed, args.count, held_out):
        seen += 1
        for question in one.questions():
            if normal(question) in held_out.prompts:
                faults.append(f"in the training data: {question}")
        text = "\n".join(t.text for t in one.turns).lower()
        faults += [f"in the training data: {n}" for n in names if n in text]
    print(f"{seen} dialogues, {len(held_out.prompts)} prompts and {len(names)} names held out, {len(faults)} faults")
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
