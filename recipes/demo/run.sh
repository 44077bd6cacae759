#!/usr/bin/env bash
# Makes the demo checkpoint from the corpora: recipes/demo/run.sh CORPORA
#
# Every job saves its state and goes on from it: after an interruption run the same command again.
# Writes below runs/demo/ and, at the end, models/demo/.
set -euo pipefail
corpora=${1:?usage: recipes/demo/run.sh CORPORA (the folder with attributes/, dialogs/, text/ ...)}
cd "$(dirname "$0")/../.."
data=runs/demo/data
steersman=target/release/steersman

cargo build --release --bins --examples
python3 recipes/demo/prepare.py "$corpora" "$data"

mkdir -p runs/demo/start models/demo/policies/{facts,assistant}
cp recipes/demo/base/config.json runs/demo/start/
target/release/examples/train_tokenizer runs/demo/start 4096 \
  "$data"/{wordnet,factbook,hh_chosen,dolly,oasst,stories}.train.jsonl
target/release/examples/fact_table models/demo/facts.json.zst \
  "$data"/factbook.train.jsonl "$data"/words.train.jsonl "$data"/facts.test.jsonl

train() {
  for job in "$@"; do "$steersman" train --config "recipes/demo/$job.toml"; done
}
train 1-base 2-chat 3-warm-up 4-recall 5-helpful 6-harmless
cp runs/demo/recall/model/* models/demo/
for reward in helpful harmless; do
  mkdir -p "models/demo/rewards/$reward"
  cp "runs/demo/$reward"/model/* "models/demo/rewards/$reward/"
done

train 7-facts 8-assistant
for policy in facts assistant; do
  cp "runs/demo/$policy"/policy/* "models/demo/policies/$policy/"
done
printf '{"default": "assistant"}\n' > models/demo/policies.json

"$steersman" evaluate --model models/demo --policy facts --prompts "$data/facts.test.jsonl" \
  --grid 11 --max-tokens 96 --rewards recipes/demo/judges-facts.toml --out runs/demo/report-facts --samples 3 --record
"$steersman" evaluate --model models/demo --policy assistant --prompts "$data/hh_prompts.test.jsonl" \
  --grid 11 --max-tokens 48 --refusal-prompts "$data/xstest.jsonl" \
  --rewards recipes/demo/judges-assistant.toml --out runs/demo/report-assistant --record
