"""The peers, each behind the same few methods.

An engine is a process's: it builds one or more indexes of the same vectors, by name.
points(name) yields the settings to sweep over, from quick to thorough; use(name, point)
sets one; search(queries) answers a batch on the threads that set_threads allowed, one(q)
answers a single query as a user would ask it; both return rows, best first. build(name)
returns the seconds of an earlier build's that this one would have taken as well."""

import os
import time

K = 10
BUILD_THREADS = os.cpu_count()
# Graphs: as wide and as carefully built as their authors advise.
HNSW_M, HNSW_CONSTRUCTION = 16, 200
SEARCH_WIDTHS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
PROBES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
MORE_PROBES = (*PROBES, 768, 1024, 2048)  # of more cells, where vectors are cheap to compare


class Engine:
    names = ()

    def __init__(self, base, folder):
        self.base, self.folder = base, folder
        self.rows, self.dim = base.shape

    def points(self, _name):
        """A list of lists: each is ordered, and left early when its recall is full."""
        return [[str(width) for width in SEARCH_WIDTHS]]


class Faiss(Engine):
    def __init__(self, base, folder):
        super().__init__(base, folder)
        import faiss

        self.faiss = faiss
        self.indexes = {}
        faiss.omp_set_num_threads(BUILD_THREADS)

    def set_threads(self, threads):
        self.faiss.omp_set_num_threads(threads)

    def use(self, name, _point):
        self.now = self.indexes[name]

    def search(self, queries):
        return self.now.search(queries, K)[1]

    def one(self, query):
        return self.now.search(query[None], K)[1][0]


class FaissFlat(Faiss):
    names = ("faiss Flat",)

    def build(self, name):
        self.indexes[name] = self.faiss.IndexFlatIP(self.dim)
        self.indexes[name].add(self.base)

    def points(self, _name):
        return [["exact"]]


class FaissIVF(Faiss):
    """Four kinds of lists over the same cells: k-means is run once and its time counted
    for each of them; the float32 vectors for refinement are one copy."""

    names = ("faiss IVF,Flat", "faiss IVF,SQ8", "faiss IVF,PQ192x4fs+refine", "faiss IVF,RaBitQfs+refine")
    centroids = flat = None
    kmeans_seconds = 0.0
    FACTORS = (2, 4, 10, 20)

    def __init__(self, base, folder):
        super().__init__(base, folder)
        self.lists = {}  # of those that are refined, which own nothing

    def train_cells(self):
        start = time.perf_counter()
        nlist = 4096 if self.rows > 500000 else 1024 if self.rows > 50000 else 256
        index = self.faiss.index_factory(self.dim, f"IVF{nlist},Flat", self.faiss.METRIC_INNER_PRODUCT)
        index.train(self.base)
        self.nlist, self.centroids = nlist, index.quantizer.reconstruct_n(0, nlist)
        self.kmeans_seconds = time.perf_counter() - start

    def build(self, name):
        before = self.kmeans_seconds
        if self.centroids is None:
            self.train_cells()
        kind = name.split(",")[1]
        faiss = self.faiss
        index = faiss.index_factory(
            self.dim, f"IVF{self.nlist},{kind.removesuffix('+refine')}", faiss.METRIC_INNER_PRODUCT
        )
        index.quantizer.add(self.centroids)  # with all cells there, training leaves k-means out
        index.train(self.base)
        index.add(self.base)
        if kind.endswith("+refine"):
            if self.flat is None:
                self.flat = faiss.IndexFlatIP(self.dim)
                self.flat.add(self.base)
            self.lists[name] = index
            index = faiss.IndexRefine(index, self.flat)
        self.indexes[name] = index
        return before

    def points(self, name):
        if not name.endswith("+refine"):
            return [[str(probes) for probes in PROBES]]
        # A batch with more probes makes faiss 1.15's RaBitQ read past its tables.
        more = self.nlist > PROBES[-1] * 2 and "RaBitQ" not in name
        probes = MORE_PROBES if more else PROBES
        return [[f"{n}/{factor}" for n in probes] for factor in self.FACTORS]

    def use(self, name, point):
        super().use(name, point)
        probes, _, factor = point.partition("/")
        lists = self.now
        if factor:
            self.now.k_factor = float(factor)
            lists = self.lists[name]
        lists.nprobe = int(probes)


class FaissHNSW(Faiss):
    names = ("faiss HNSW",)

    def build(self, name):
        index = self.faiss.IndexHNSWFlat(self.dim, HNSW_M, self.faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_CONSTRUCTION
        index.add(self.base)
        self.indexes[name] = index

    def use(self, name, point):
        super().use(name, point)
        self.now.hnsw.efSearch = int(point)


class Hnswlib(Engine):
    names = ("hnswlib",)

    def __init__(self, base, folder):
        super().__init__(base, folder)
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=self.dim)

    def build(self, _name):
        self.index.init_index(max_elements=self.rows, M=HNSW_M, ef_construction=HNSW_CONSTRUCTION)
        self.index.add_items(self.base, num_threads=BUILD_THREADS)

    def set_threads(self, threads):
        self.threads = threads
        self.index.set_num_threads(threads)

    def use(self, _name, point):
        self.index.set_ef(int(point))

    def search(self, queries):
        return self.index.knn_query(queries, K, num_threads=self.threads)[0]

    def one(self, query):
        return self.index.knn_query(query, K, num_threads=1)[0][0]


class Usearch(Engine):
    names = ("usearch float16",)

    def __init__(self, base, folder):
        super().__init__(base, folder)
        from usearch.index import Index

        self.index = Index(
            ndim=self.dim, metric="ip", dtype="f16", connectivity=HNSW_M, expansion_add=HNSW_CONSTRUCTION
        )

    def build(self, _name):
        import numpy

        self.index.add(numpy.arange(self.rows, dtype=numpy.uint64), self.base, threads=BUILD_THREADS)

    def set_threads(self, threads):
        self.threads = threads

    def use(self, _name, point):
        self.index.expansion_search = int(point)

    def search(self, queries):
        return self.index.search(queries, K, threads=self.threads).keys

    def one(self, query):
        return self.index.search(query, K, threads=1).keys


class Scann(Engine):
    names = ("ScaNN",)
    REORDERED = (20, 40, 100, 200)

    def __init__(self, base, folder):
        super().__init__(base, folder)
        import scann

        self.scann = scann.scann_ops_pybind

    def build(self, _name):
        leaves = 4000 if self.rows > 500000 else 1000 if self.rows > 50000 else 250
        builder = self.scann.builder(self.base, K, "dot_product").set_n_training_threads(BUILD_THREADS)
        builder = builder.tree(num_leaves=leaves, num_leaves_to_search=32, training_sample_size=min(self.rows, 250000))
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100)
        self.searcher = builder.build()

    def points(self, _name):
        return [[f"{leaves}/{reordered}" for leaves in PROBES] for reordered in self.REORDERED]

    def set_threads(self, threads):
        self.threads = threads
        self.searcher.set_num_threads(threads)

    def use(self, _name, point):
        self.leaves, self.reordered = map(int, point.split("/"))

    def search(self, queries):
        ask = self.searcher.search_batched if self.threads == 1 else self.searcher.search_batched_parallel
        return ask(queries, K, self.reordered, self.leaves)[0]

    def one(self, query):
        return self.searcher.search(query, K, self.reordered, self.leaves)[0]


class SVS(Engine):
    """Intel's graph, over float16 vectors and over vectors of 4 and 8 bits (LVQ)."""

    names = ("SVS Vamana float16", "SVS Vamana LVQ4x8")
    DEGREE, WINDOW, ALPHA = 64, 128, 0.95
    build_seconds = 0.0

    def __init__(self, base, folder):
        super().__init__(base, folder)
        import svs

        self.svs = svs
        self.indexes = {}

    def make_graph(self):
        """Over float16, and saved: the only way to the graph over LVQ."""
        svs, start = self.svs, time.perf_counter()
        parameters = svs.VamanaBuildParameters(
            alpha=self.ALPHA, graph_max_degree=self.DEGREE, window_size=self.WINDOW
        )
        graph = svs.Vamana.build(
            parameters, self.base.astype("float16"), svs.DistanceType.MIP, num_threads=BUILD_THREADS
        )
        self.build_seconds = time.perf_counter() - start
        graph.save(*(f"{self.folder}/svs-{part}" for part in ("config", "graph", "data")))
        return graph

    def build(self, name):
        svs, before = self.svs, self.build_seconds
        graph = self.make_graph() if before == 0 else None
        if name == self.names[0]:
            self.indexes[name] = graph
            return before
        del graph  # before the other one needs the memory
        data = svs.LVQLoader(
            svs.VectorDataLoader(f"{self.folder}/svs-data", svs.DataType.float16), primary=4, residual=8
        )
        self.indexes[name] = svs.Vamana(
            f"{self.folder}/svs-config",
            svs.GraphLoader(f"{self.folder}/svs-graph"),
            data,
            distance=svs.DistanceType.MIP,
            num_threads=BUILD_THREADS,
        )
        return before

    def set_threads(self, threads):
        for index in self.indexes.values():
            index.num_threads = threads

    def use(self, name, point):
        self.now = self.indexes[name]
        self.now.search_window_size = int(point)

    def search(self, queries):
        return self.now.search(queries, K)[0]

    def one(self, query):
        return self.now.search(query, K)[0][0]


# In the order of their turns. PACKAGES: what each needs from the package index.
ENGINES = {e.__name__: e for e in (FaissFlat, FaissIVF, FaissHNSW, Scann, SVS, Hnswlib, Usearch)}
PACKAGES = {
    "FaissFlat": "faiss-cpu",
    "FaissIVF": "faiss-cpu",
    "FaissHNSW": "faiss-cpu",
    "Scann": "scann",
    "SVS": "scalable-vs",
    "Hnswlib": "hnswlib",
    "Usearch": "usearch",
}
GRAPHS = FaissHNSW.names + SVS.names + Hnswlib.names + Usearch.names
