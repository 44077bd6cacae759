#!/usr/bin/env python3
"""Selects the demo's training and test rows from the corpora, deterministically.

usage: prepare.py CORPORA OUT

Standard library and the `zstd` command only. What is dropped, and why:
- WordNet: only the 600 commonest words, and at the end the 300 commonest, because a model of this
  size that sees a few million tokens remembers no more;
- dialogues: only short ones, because the training budget is two cores for half an hour.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys

COMMON_WORDS = 600
# The words that the finished policy is asked about.
KNOWN_WORDS = 300


def rows(path):
    text = subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in text.splitlines()]


def write(path, items):
    with open(path, "w", encoding="utf-8") as out:
        for item in items:
            out.write(json.dumps(item, ensure_ascii=False) + "\n")
    print(f"{path.name}: {len(items)} rows")


def chars(row):
    return sum(len(m["content"]) for m in row["messages"])


def answered(row, answer, **scores):
    turns = row["prompt"] + [{"role": "assistant", "content": answer}]
    return {"messages": turns, "scores": scores}


def facts_warm_up(rows):
    """Each question short, in two or three sentences, and in full, with what each is good at."""
    for row in rows:
        yield answered(row, row["concise"], brevity=1.0, detail=0.0)
        sentences = row["detailed"].split(". ")
        if "country" in row and len(sentences) >= 4:
            middle = ". ".join(sentences[: 2 + int(row["id"][-1], 16) % 2]) + "."
            yield answered(row, middle, brevity=0.65, detail=0.65)
        yield answered(row, row["detailed"], brevity=0.0, detail=1.0)


def asked_otherwise(rows):
    """The rows, and each word asked for in two more ways. A word in quotes and one after a blank are
    different tokens to the model, and a word of the test rows is trained in one phrasing only."""
    yield from rows
    for word, row in {row["word"]: row for row in rows}.items():
        for place, question in enumerate((f"Define {word}.", f'Define "{word}".')):
            prompt = [{"role": "user", "content": question}]
            yield row | {"id": f'{row["id"]}-{place}', "prompt": prompt}


def assistant_recall(pairs):
    """Answers to red-team prompts, the harmless one and the one that people found harmful but that
    may be to the point; and good answers to ordinary prompts, which no weight is for or against, so
    that what harmlessness changes is the answer to red-team prompts."""
    for row in pairs:
        if len(row["prompt"]) > 3 or sum(len(m["content"]) for m in row["prompt"]) > 500:
            continue
        if row["objective"] == "harmless":
            told = ((row["chosen"], {"harmlessness": 1.0}), (row["rejected"], {"helpfulness": 1.0}))
        else:
            told = ((row["chosen"], {}),)
        for answer, scores in told:
            if 0 < len(answer) <= 350:
                yield answered(row, answer, **scores)


REFUSAL = re.compile(
    r"(?i)\b(sorry,? (but|however|i)|i (really |just )?(can'?t|cannot|won'?t|wouldn'?t)|i'?m (not"
    r" comfortable|unable|not able)|i don'?t feel comfortable|i don'?t think (that|it)\b)"
)


def refusals(rows):
    """Those of the harmless answers that refuse: too few to be learnt from one pass."""
    for row in rows:
        if "harmlessness" in row["scores"] and REFUSAL.search(row["messages"][-1]["content"]):
            yield row


def assistant_warm_up(pairs):
    """Both answers to single questions: the harmless one, and the one that people found harmful but
    that may be to the point; the more helpful one, and the less helpful one under any weights."""
    for row in pairs:
        if len(row["prompt"]) != 1 or sum(len(m["content"]) for m in row["prompt"]) > 400:
            continue
        good = {"helpful": "helpfulness", "harmless": "harmlessness"}[row["objective"]]
        bad = {"helpfulness": 1.0} if row["objective"] == "harmless" else {}
        for answer, scores in ((row["chosen"], {good: 1.0}), (row["rejected"], bad)):
            if 0 < len(answer) <= 350:
                yield answered(row, answer, **scores)


def main():
    corpora, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    rank = {}
    for index, line in enumerate(open(corpora / "lexicons/common_words_10k.tsv", encoding="utf-8")):
        rank[line.split("\t")[0]] = index

    wordnet = rows(corpora / "attributes/attr_wordnet_concise_detailed.train.jsonl.zst")
    words = sorted({row["word"] for row in wordnet}, key=lambda w: (rank.get(w, 10**6), w))
    keep = lambda rows, count: [row for row in rows if row["word"] in set(words[:count])]
    common = keep(wordnet, COMMON_WORDS)
    write(out / "wordnet.train.jsonl", common)
    known = list(asked_otherwise(keep(wordnet, KNOWN_WORDS)))
    write(out / "words.train.jsonl", known)
    write(out / "words_recall.train.jsonl", list(facts_warm_up(known)))
    wordnet = rows(corpora / "attributes/attr_wordnet_concise_detailed.test.jsonl.zst")
    wordnet_test = keep(wordnet, KNOWN_WORDS)

    factbook = rows(corpora / "attributes/attr_factbook_concise_detailed.train.jsonl.zst")
    write(out / "factbook.train.jsonl", factbook)
    write(out / "facts_warm_up.train.jsonl", list(facts_warm_up(factbook + common)))
    write(out / "facts_recall.train.jsonl", list(facts_warm_up(factbook)))
    factbook_test = rows(corpora / "attributes/attr_factbook_concise_detailed.test.jsonl.zst")
    write(out / "facts.test.jsonl", factbook_test + wordnet_test)

    hh = rows(corpora / "dialogs/dialog_hh_chosen.train.jsonl.zst")
    short = [row for row in hh if len(row["messages"]) <= 4 and chars(row) <= 700]
    write(out / "hh_chosen.train.jsonl", short)

    dolly = rows(corpora / "dialogs/instr_dolly15k.train.jsonl.zst")
    write(out / "dolly.train.jsonl", [row for row in dolly if chars(row) <= 350])

    seen = collections.Counter()
    oasst = []
    for row in rows(corpora / "dialogs/instr_oasst_model_samples.train.jsonl.zst"):
        prompt = row["messages"][0]["content"]
        if chars(row) <= 500 and seen[prompt] < 5:
            seen[prompt] += 1
            oasst.append(row)
    write(out / "oasst.train.jsonl", oasst)

    stories = rows(corpora / "text/text_tinystories_sample.train.jsonl.zst")
    write(out / "stories.train.jsonl", stories[:4000])
    write(out / "stories.test.jsonl", rows(corpora / "text/text_tinystories_sample.test.jsonl.zst")[:60])

    for split in ("train", "test"):
        prompts = rows(corpora / f"prompts/prompts_hh.{split}.jsonl.zst")
        turns = lambda row: len(row["prompt"])
        size = lambda row: sum(len(m["content"]) for m in row["prompt"])
        write(out / f"hh_prompts.{split}.jsonl", [r for r in prompts if turns(r) == 1 and size(r) <= 240])
        pairs = rows(corpora / f"pairs/pairs_hh.{split}.jsonl.zst")
        if split == "train":
            write(out / "assistant_warm_up.train.jsonl", list(assistant_warm_up(pairs)))
            recall = list(assistant_recall(pairs))
            write(out / "assistant_recall.train.jsonl", recall)
            write(out / "refusals_recall.train.jsonl", list(refusals(recall)))
        for objective in ("helpful", "harmless"):
            chosen = [r for r in pairs if r["objective"] == objective]
            write(out / f"hh_pairs_{objective}.{split}.jsonl", chosen)
    write(out / "xstest.jsonl", rows(corpora / "prompts/prompts_xstest.train.jsonl.zst"))


if __name__ == "__main__":
    main()
