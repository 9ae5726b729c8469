/* The side of libFuzzer: SEMD_FUZZ names the target. FUZZ_SEEDS=folder writes the
 * target's seeds there before the first run. */
#include "tests/fuzz/targets.h"

#include "base/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const fuzz_target *target;
static char dir[] = "/tmp/semd-fuzz-XXXXXX";

static void remove_dir(void)
{
    files_remove_folder(dir, NULL);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static uint8_t seed[FUZZ_SEED_MAX];
    const char *name = getenv("SEMD_FUZZ"), *folder = getenv("FUZZ_SEEDS");
    (void)argc;
    (void)argv;
    for (size_t i = 0; name != NULL && i < FUZZ_TARGETS; i++)
        if (strcmp(FUZZ_TARGET_LIST[i].name, name) == 0)
            target = &FUZZ_TARGET_LIST[i];
    if (target == NULL || mkdtemp(dir) == NULL) {
        fprintf(stderr, "SEMD_FUZZ has to name a target: tokenizer, text, config, safetensors or request\n");
        exit(2);
    }
    atexit(remove_dir);
    for (size_t i = 0; folder != NULL && target->seeds[i] != NULL; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/seed-%zu", folder, i);
        FILE *file = fopen(path, "wb");
        size_t size = fuzz_seed(target->seeds[i], seed);
        if (file == NULL || fwrite(seed, 1, size, file) != size || fclose(file) != 0)
            exit(2);
    }
    /* What is made once, as tokenizers are, would seem an input that takes too long. */
    target->run(dir, (const uint8_t *)"", 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    target->run(dir, data, size);
    return 0;
}
