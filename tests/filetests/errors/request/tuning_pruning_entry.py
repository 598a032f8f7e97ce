"""An entry that does not exist."""

import blocklang


def act():
    blocklang.autotune([], key=[], prune_configs_by={"early_prune": list})

# expected:
# error[BL716]: prune_configs_by has no entry 'early_prune'
#   help: entries: perf_model, top_k, early_config_prune
