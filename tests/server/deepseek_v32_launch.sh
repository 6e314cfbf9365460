# The launch line for DeepSeek-V3.2 on two hosts of eight ranks, as users carry it over. The program, the model's path,
# the addresses and the job secret come from the environment:
#   SLUICE MODEL_PATH NODE_RANK HEAD_ADDR NODE_ADDR DIST_PORT PORT SLUICE_JOB_SECRET
export SGLANG_PP_LAYER_PARTITION=30,31
exec "$SLUICE" serve \
  --model-path "$MODEL_PATH" \
  --nnodes 2 --node-rank "$NODE_RANK" \
  --dist-init-addr "$HEAD_ADDR:$DIST_PORT" --data-plane-addr "$NODE_ADDR" \
  --tp 8 --pp-size 2 \
  --enable-nsa-prefill-context-parallel \
  --nsa-prefill-cp-mode round-robin-split \
  --attention-backend nsa \
  --nsa-prefill-backend flashmla_sparse --nsa-decode-backend fa3 \
  --trust-remote-code \
  --disable-radix-cache \
  --mem-fraction-static 0.8 \
  --max-running-requests 128 \
  --chunked-prefill-size 8192 \
  --watchdog-timeout 3600 \
  --host 0.0.0.0 --port "$PORT" \
  --tool-call-parser deepseekv32 \
  --reasoning-parser deepseek-v3 \
  --enable-metrics --collect-tokens-histogram \
  --enable-cache-report \
  --decode-log-interval 1 \
  --enable-request-time-stats-logging \
  --log-level debug
