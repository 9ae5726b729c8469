/* Text queries against what encoding and scanning take: see text.c. */
#ifndef SEM_BENCH_SERVER_TEXT_H
#define SEM_BENCH_SERVER_TEXT_H

#include "bench/server/load.h"

sem_status load_text(const load_options *o, sem_error *err);

#endif
