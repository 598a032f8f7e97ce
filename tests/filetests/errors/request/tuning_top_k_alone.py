"""Nothing to rank by."""

import blocklang


def act():
    blocklang.autotune([], key=[], prune_configs_by={"top_k": 3})

# expected:
# error[BL716]: prune_configs_by has 'top_k' without 'perf_model'
#   help: entries: perf_model, top_k, early_config_prune
