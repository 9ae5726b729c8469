#include "bench/clicksim/click_model.h"

#include <math.h>
#include <string.h>

double click_examination(const click_model *m, size_t rank)
{
    return pow((double)rank, -m->strength);
}

static size_t draw_by_position(const click_model *m, const bool *relevant, size_t count, random_state *r, bool *clicked)
{
    size_t clicks = 0;
    for (size_t i = 0; i < count; i++) {
        clicked[i] = random_unit(r) < click_examination(m, i + 1) * (relevant[i] ? m->hit : m->noise);
        clicks += clicked[i];
    }
    return clicks;
}

static size_t draw_by_cascade(const click_model *m, const bool *relevant, size_t count, random_state *r, bool *clicked)
{
    memset(clicked, 0, count * sizeof *clicked);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && random_unit(r) >= click_examination(m, i + 1) / click_examination(m, i))
            return 0;
        clicked[i] = random_unit(r) < (relevant[i] ? m->hit : m->noise);
        if (clicked[i])
            return 1;
    }
    return 0;
}

size_t click_draw(const click_model *m, const bool *relevant, size_t count, random_state *r, bool *clicked)
{
    return m->kind == CLICK_PBM ? draw_by_position(m, relevant, count, r, clicked)
                                : draw_by_cascade(m, relevant, count, r, clicked);
}
