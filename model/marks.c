#include "model/marks.h"

#include "base/checked.h"

enum { FEW_MARKS = 32 };

bool mark_run_add(mark_run *run, uint32_t code, uint8_t combining)
{
    if (run->count == run->capacity) {
        size_t capacity = run->capacity == 0 ? 32 : run->capacity * 2;
        mark *marks = checked_realloc(run->marks, capacity, 2 * sizeof *marks);
        if (marks == NULL)
            return false;
        run->marks = marks;
        run->capacity = capacity;
    }
    run->marks[run->count++] = (mark)combining << 24 | code;
    return true;
}

void mark_run_free(mark_run *run)
{
    free(run->marks);
    *run = (mark_run){.marks = NULL};
}

/* Stable, by class: few marks by insertion, many by counting, so that a million
 * marks on one letter take linear time. */
mark *mark_run_sort(mark_run *run)
{
    mark *marks = run->marks, *spare = marks + run->capacity;
    if (run->count <= FEW_MARKS) {
        for (size_t i = 1; i < run->count; i++) {
            mark m = marks[i];
            size_t j = i;
            for (; j > 0 && mark_class(marks[j - 1]) > mark_class(m); j--)
                marks[j] = marks[j - 1];
            marks[j] = m;
        }
        return marks;
    }
    size_t place[256] = {0};
    for (size_t i = 0; i < run->count; i++)
        place[mark_class(marks[i])]++;
    size_t sum = 0;
    for (size_t c = 0; c < 256; c++) {
        size_t n = place[c];
        place[c] = sum;
        sum += n;
    }
    for (size_t i = 0; i < run->count; i++)
        spare[place[mark_class(marks[i])]++] = marks[i];
    return spare;
}
