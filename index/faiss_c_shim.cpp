// The functions of FAISS's C interface that semd calls, for systems whose FAISS
// package holds its headers but not the library behind them. Signatures, error
// codes and faiss_get_last_error() are those of the headers, which are included
// here so that the compiler compares them; make FAISS_C=system links FAISS's own
// instead. A test keeps this file to what index/ really calls.
#include <faiss/Clustering.h>
#include <faiss/Index.h>
#include <faiss/IndexFlat.h>
#include <faiss/IndexIVF.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexScalarQuantizer.h>
#include <faiss/MetaIndexes.h>
#include <faiss/clone_index.h>
#include <faiss/impl/FaissException.h>
#include <faiss/index_io.h>

extern "C" {
#include <faiss/c_api/Clustering_c.h>
#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/IndexIVFFlat_c.h>
#include <faiss/c_api/IndexIVF_c.h>
#include <faiss/c_api/IndexScalarQuantizer_c.h>
#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/MetaIndexes_c.h>
#include <faiss/c_api/clone_index_c.h>
#include <faiss/c_api/error_c.h>
#include <faiss/c_api/index_io_c.h>
}

#include <exception>

namespace
{

thread_local std::exception_ptr last_exception;

/* Runs call; no exception leaves it. */
template <typename Call> int guarded(Call call) noexcept
{
    try {
        call();
        return OK;
    } catch (const faiss::FaissException &) {
        last_exception = std::current_exception();
        return FAISS_EXCEPT;
    } catch (const std::exception &) {
        last_exception = std::current_exception();
        return STD_EXCEPT;
    } catch (...) {
        last_exception = std::current_exception();
        return UNKNOWN_EXCEPT;
    }
}

faiss::Index *unwrap(FaissIndex *handle)
{
    return reinterpret_cast<faiss::Index *>(handle);
}

const faiss::Index *unwrap(const FaissIndex *handle)
{
    return reinterpret_cast<const faiss::Index *>(handle);
}

faiss::IndexIVF *ivf_of(FaissIndex *handle)
{
    return static_cast<faiss::IndexIVF *>(unwrap(handle));
}

faiss::Clustering *unwrap(FaissClustering *handle)
{
    return reinterpret_cast<faiss::Clustering *>(handle);
}

/* A handle always holds the address of the Index within the object, so that
 * every function of Index_c.h takes it, whatever the class. */
FaissIndex *wrap(faiss::Index *object)
{
    return reinterpret_cast<FaissIndex *>(object);
}

faiss::ClusteringParameters parameters_of(const FaissClusteringParameters &from)
{
    faiss::ClusteringParameters to;
    to.niter = from.niter;
    to.nredo = from.nredo;
    to.verbose = from.verbose != 0;
    to.spherical = from.spherical != 0;
    to.int_centroids = from.int_centroids != 0;
    to.update_index = from.update_index != 0;
    to.frozen_centroids = from.frozen_centroids != 0;
    to.min_points_per_centroid = from.min_points_per_centroid;
    to.max_points_per_centroid = from.max_points_per_centroid;
    to.seed = from.seed;
    to.decode_block_size = from.decode_block_size;
    return to;
}

} // namespace

extern "C" {

const char *faiss_get_last_error()
{
    if (last_exception == nullptr)
        return nullptr;
    try {
        std::rethrow_exception(last_exception);
    } catch (const std::exception &e) {
        return e.what(); // owned by the exception, which last_exception keeps
    } catch (...) {
        return "Unknown error";
    }
}

// --- Index_c.h

int faiss_Index_add(FaissIndex *index, idx_t n, const float *x)
{
    return guarded([&] { unwrap(index)->add(n, x); });
}

int faiss_Index_add_with_ids(FaissIndex *index, idx_t n, const float *x, const idx_t *xids)
{
    return guarded([&] { unwrap(index)->add_with_ids(n, x, xids); });
}

int faiss_Index_train(FaissIndex *index, idx_t n, const float *x)
{
    return guarded([&] { unwrap(index)->train(n, x); });
}

int faiss_Index_search(const FaissIndex *index, idx_t n, const float *x, idx_t k, float *distances, idx_t *labels)
{
    return guarded([&] { unwrap(index)->search(n, x, k, distances, labels); });
}

void faiss_Index_free(FaissIndex *obj)
{
    delete unwrap(obj);
}

int faiss_clone_index(const FaissIndex *index, FaissIndex **p_out)
{
    return guarded([&] { *p_out = wrap(faiss::clone_index(unwrap(index))); });
}

int faiss_write_index(const FaissIndex *idx, FILE *f)
{
    return guarded([&] { faiss::write_index(unwrap(idx), f); });
}

int faiss_read_index(FILE *f, int io_flags, FaissIndex **p_out)
{
    return guarded([&] { *p_out = wrap(faiss::read_index(f, io_flags)); });
}

// --- MetaIndexes_c.h

int faiss_IndexIDMap_new(FaissIndexIDMap **p_index, FaissIndex *index)
{
    return guarded([&] { *p_index = wrap(new faiss::IndexIDMap(unwrap(index))); });
}

void faiss_IndexIDMap_set_own_fields(FaissIndexIDMap *index, int own_fields)
{
    static_cast<faiss::IndexIDMap *>(unwrap(index))->own_fields = own_fields != 0;
}

// --- IndexFlat_c.h, IndexIVFFlat_c.h, IndexScalarQuantizer_c.h, IndexIVF_c.h

int faiss_IndexFlatIP_new_with(FaissIndexFlatIP **p_index, idx_t d)
{
    return guarded([&] { *p_index = wrap(new faiss::IndexFlatIP(d)); });
}

int faiss_IndexIVFFlat_new_with_metric(FaissIndexIVFFlat **p_index, FaissIndex *quantizer, size_t d, size_t nlist,
                                       FaissMetricType metric)
{
    return guarded([&] {
        *p_index = wrap(new faiss::IndexIVFFlat(unwrap(quantizer), d, nlist, static_cast<faiss::MetricType>(metric)));
    });
}

void faiss_IndexIVFFlat_set_own_fields(FaissIndexIVFFlat *index, int own_fields)
{
    ivf_of(index)->own_fields = own_fields != 0;
}

int faiss_IndexIVFFlat_add_core(FaissIndexIVFFlat *index, idx_t n, const float *x, const idx_t *xids,
                                const idx_t *precomputed_idx)
{
    return guarded([&] { ivf_of(index)->add_core(n, x, xids, precomputed_idx); });
}

int faiss_IndexIVFScalarQuantizer_new_with_metric(FaissIndexIVFScalarQuantizer **p_index, FaissIndex *quantizer,
                                                  size_t d, size_t nlist, FaissQuantizerType qt, FaissMetricType metric,
                                                  int encode_residual)
{
    return guarded([&] {
        *p_index = wrap(new faiss::IndexIVFScalarQuantizer(
            unwrap(quantizer), d, nlist, static_cast<faiss::ScalarQuantizer::QuantizerType>(qt),
            static_cast<faiss::MetricType>(metric), encode_residual != 0));
    });
}

void faiss_IndexIVFScalarQuantizer_set_own_fields(FaissIndexIVFScalarQuantizer *index, int own_fields)
{
    ivf_of(index)->own_fields = own_fields != 0;
}

int faiss_IndexIVFScalarQuantizer_add_core(FaissIndexIVFScalarQuantizer *index, idx_t n, const float *x,
                                           const idx_t *xids, const idx_t *precomputed_idx)
{
    return guarded([&] { ivf_of(index)->add_core(n, x, xids, precomputed_idx); });
}

int faiss_IndexIVF_search_preassigned(const FaissIndexIVF *index, idx_t n, const float *x, idx_t k, const idx_t *assign,
                                      const float *centroid_dis, float *distances, idx_t *labels, int store_pairs)
{
    return guarded([&] {
        static_cast<const faiss::IndexIVF *>(unwrap(index))
            ->search_preassigned(n, x, k, assign, centroid_dis, distances, labels, store_pairs != 0);
    });
}

FaissIndex *faiss_IndexIVF_quantizer(const FaissIndexIVF *index)
{
    return wrap(static_cast<const faiss::IndexIVF *>(unwrap(index))->quantizer);
}

size_t faiss_IndexIVF_get_list_size(const FaissIndexIVF *index, size_t list_no)
{
    return static_cast<const faiss::IndexIVF *>(unwrap(index))->get_list_size(list_no);
}

void faiss_IndexIVF_set_nprobe(FaissIndexIVF *index, size_t nprobe)
{
    ivf_of(index)->nprobe = nprobe;
}

// --- Clustering_c.h

void faiss_ClusteringParameters_init(FaissClusteringParameters *params)
{
    const faiss::ClusteringParameters defaults;
    params->niter = defaults.niter;
    params->nredo = defaults.nredo;
    params->verbose = defaults.verbose;
    params->spherical = defaults.spherical;
    params->int_centroids = defaults.int_centroids;
    params->update_index = defaults.update_index;
    params->frozen_centroids = defaults.frozen_centroids;
    params->min_points_per_centroid = defaults.min_points_per_centroid;
    params->max_points_per_centroid = defaults.max_points_per_centroid;
    params->seed = defaults.seed;
    params->decode_block_size = defaults.decode_block_size;
}

int faiss_Clustering_new_with_params(FaissClustering **p_clustering, int d, int k, const FaissClusteringParameters *cp)
{
    return guarded(
        [&] { *p_clustering = reinterpret_cast<FaissClustering *>(new faiss::Clustering(d, k, parameters_of(*cp))); });
}

int faiss_Clustering_train(FaissClustering *clustering, idx_t n, const float *x, FaissIndex *index)
{
    return guarded([&] { unwrap(clustering)->train(n, x, *unwrap(index)); });
}

void faiss_Clustering_centroids(FaissClustering *clustering, float **centroids, size_t *size)
{
    faiss::Clustering *c = unwrap(clustering);
    *centroids = c->centroids.data();
    if (size != nullptr)
        *size = c->centroids.size();
}

void faiss_Clustering_free(FaissClustering *clustering)
{
    delete unwrap(clustering);
}

} // extern "C"
