# The launch line for GLM-5 as users carry it over: two hosts of eight ranks in a LeaderWorkerSet, whose variables the
# shell expands. The program, the model's
# path, this host's address and the job secret come from the environment:
#   SLUICE MODEL_PATH NODE_ADDR DIST_PORT PORT SLUICE_JOB_SECRET LWS_LEADER_ADDRESS LWS_GROUP_SIZE LWS_WORKER_INDEX
export SGLANG_PP_LAYER_PARTITION=39,39
exec "$SLUICE" serve \
  --model-path "$MODEL_PATH" \
  --nnodes "$LWS_GROUP_SIZE" --node-rank "$LWS_WORKER_INDEX" \
  --dist-init-addr "$LWS_LEADER_ADDRESS:$DIST_PORT" --data-plane-addr "$NODE_ADDR" \
  --tp 8 --pp-size 2 --dp-size 1 --attn-cp-size 8 --moe-dense-tp-size 1 \
  --enable-nsa-prefill-context-parallel \
  --nsa-prefill-cp-mode round-robin-split \
  --trust-remote-code \
  --attention-backend nsa \
  --nsa-prefill-backend flashmla_auto --nsa-decode-backend flashmla_kv \
  --kv-cache-dtype fp8_e4m3 --page-size 64 \
  --mem-fraction-static 0.86 \
  --context-length 131072 \
  --max-running-requests 128 \
  --chunked-prefill-size 16384 --max-prefill-tokens 16384 \
  --pp-max-micro-batch-size 64 --pp-async-batch-depth 1 \
  --cuda-graph-bs 1 2 4 8 16 32 --cuda-graph-max-bs 32 \
  --num-reserved-decode-tokens 1024 \
  --model-loader-extra-config '{"enable_multithread_load": true, "num_threads": 8}' \
  --watchdog-timeout 3600 \
  --host 0.0.0.0 --port "$PORT" \
  --tool-call-parser glm47 --reasoning-parser glm45 \
  --enable-metrics --collect-tokens-histogram --enable-cache-report \
  --decode-log-interval 1 --enable-request-time-stats-logging \
  --log-level debug --log-level-http error
