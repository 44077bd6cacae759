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

mkdir -p runs/demo/start models/demo/policies/facts
cp recipes/demo/base/config.json runs/demo/start/
target/release/examples/train_tokenizer runs/demo/start 4096 \
  "$data"/{wordnet,factbook,hh_chosen,dolly,oasst,stories}.train.jsonl
target/release/examples/fact_table models/demo/facts.json.zst \
  "$data"/factbook.train.jsonl "$data"/wordnet.train.jsonl "$data"/facts.test.jsonl

for job in 1-base 2-chat 3-warm-up 6-facts; do
  "$steersman" train --config "recipes/demo/$job.toml"
done

cp runs/demo/warm-up/model/* models/demo/
cp runs/demo/facts/policy/* models/demo/policies/facts/
printf '{"default": "facts"}\n' > models/demo/policies.json
"$steersman" evaluate --model models/demo --policy facts --prompts "$data/facts.test.jsonl" \
  --grid 11 --max-tokens 96 --out runs/demo/report --samples 3 --record

# The reward models of helpfulness and harmlessness, and the policy between them; its policy is not
# shipped yet.
for job in 4-helpful 5-harmless 7-assistant; do
  "$steersman" train --config "recipes/demo/$job.toml"
done
