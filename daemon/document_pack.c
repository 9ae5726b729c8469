#include "daemon/document_pack.h"

#include "proto/request.h"

size_t document_entries(const document_parts *d)
{
    return (size_t)((d->with & WITH_TEXT) != 0) + ((d->with & WITH_META) != 0) + (d->vector != NULL);
}

void document_pack(packer *p, const document_parts *d)
{
    if (d->with & WITH_TEXT) {
        pack_str(p, "text");
        pack_strn(p, d->doc->text, d->doc->text_length);
    }
    if (d->with & WITH_META) {
        pack_str(p, "meta");
        if (d->doc->meta_length > 0)
            pack_raw(p, d->doc->meta, d->doc->meta_length);
        else
            pack_map(p, 0);
    }
    if (d->vector != NULL) {
        pack_str(p, "vector");
        pack_bin(p, d->vector, d->dim * sizeof(float));
    }
}

void document_pack_passage(packer *p, store_range range)
{
    pack_str(p, "passage");
    pack_array(p, 2);
    pack_uint(p, range.from);
    pack_uint(p, range.to);
}
