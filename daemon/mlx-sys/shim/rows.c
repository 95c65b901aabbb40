/* Products of a few rows with a matrix: what one token, or the tokens of one round of speculation, need. A general BLAS
 * packs the matrix before it multiplies, which pays for many rows and costs several times the product for few. Here every
 * number of the matrix is read once, as it lies. Larger matrices are shared with the other cores, in pieces that are
 * taken one by one, so that a core that is busy elsewhere holds up one piece at most.
 *
 * What is not here: products of many rows, but for handing each core a part of them, other types but for a matrix of 16 bits, other processors than those below.
 * `blas.c` asks the BLAS then. */

#include "rows.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

/* Beyond so many rows a BLAS that packs is faster. */
enum { MOST_ROWS = 16 };
/* As many as 32 registers take at once without one of the sums being put aside. */
enum { DEEP = 7 };
/* Products of numbers from which a second core pays, and numbers of the matrix in one piece. */
enum { WORTH_SHARING = 1 << 19, PIECE = 1 << 16 };
/* Products of numbers from which it pays to give a BLAS that was told to use one core a part of the rows on each. */
enum { WORTH_PARTING = 1 << 22 };
/* Rounds of waiting before a core goes to sleep: some tens of microseconds. */
enum { SPINS = 4000 };

/* Rows `a` times the matrix `b`, for the columns from `first` to `last` of the result `c`. */
typedef struct {
  const float* a;
  const void* b;
  float* c;
  int m, n, k, lda, ldb, ldc;
  float alpha, beta;
  int by_rows_of_b;
} Product;
typedef void (*Kernel)(const Product*, int first, int last);

static inline __attribute__((always_inline)) void put(const Product* p, int row, int column, float sum) {
  float* c = p->c + (size_t)row * p->ldc + column;
  *c = p->beta == 0 ? p->alpha * sum : p->alpha * sum + p->beta * *c;
}

#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

/* The kernels for vectors of WIDTH numbers on a processor with so many REGISTERS, for MOST rows at a time. The matrix has numbers of
 * the type NUMBER, of which LOAD makes a vector and ONE makes a float. `_rows`: the matrix lies by rows of `b`, one for each column of the result. `_columns`: it lies the other way. */
#define KERNELS(NAME, TARGET, NUMBER, LOAD, ONE, WIDTH, REGISTERS, MOST, HALVES)                                               \
  typedef float NAME##_v __attribute__((vector_size(WIDTH * 4), aligned(4), may_alias));                                       \
  /* The sums of the numbers of four vectors. */                                                                               \
  TARGET static INLINE void NAME##_sums(const NAME##_v* v, int count, float* sums) {                                           \
    for (int j = 0; j < count; j++) {                                                                                          \
      NAME##_v x = v[j];                                                                                                       \
      HALVES(x);                                                                                                               \
      sums[j] = x[0];                                                                                                          \
    }                                                                                                                          \
  }                                                                                                                            \
  TARGET static INLINE void NAME##_rows_of(const Product* p, int m, int row, int column, int count) {                          \
    NAME##_v sums[MOST][4];                                                                                                    \
    UNROLL for (int i = 0; i < m; i++) UNROLL for (int j = 0; j < count; j++) sums[i][j] = (NAME##_v){0};                      \
    const float* a = p->a + (size_t)row * p->lda;                                                                              \
    const NUMBER* b = (const NUMBER*)p->b + (size_t)column * p->ldb;                                                           \
    int full = p->k / WIDTH * WIDTH;                                                                                           \
    for (int at = 0; at < full; at += WIDTH) {                                                                                 \
      NAME##_v x[MOST];                                                                                                        \
      UNROLL for (int i = 0; i < m; i++) x[i] = *(const NAME##_v*)(a + (size_t)i * p->lda + at);                               \
      UNROLL for (int j = 0; j < count; j++) {                                                                                 \
        NAME##_v y = LOAD(NAME##_v, b + (size_t)j * p->ldb + at);                                                              \
        if (m > 1) HOLD(y);                                                                                                    \
        UNROLL for (int i = 0; i < m; i++) sums[i][j] += x[i] * y;                                                             \
      }                                                                                                                        \
    }                                                                                                                          \
    UNROLL for (int i = 0; i < m; i++) {                                                                                       \
      float sum[4];                                                                                                            \
      NAME##_sums(sums[i], count, sum);                                                                                        \
      UNROLL for (int j = 0; j < count; j++) {                                                                                 \
        for (int at = full; at < p->k; at++) sum[j] += a[(size_t)i * p->lda + at] * ONE(b[(size_t)j * p->ldb + at]);           \
        put(p, row + i, column + j, sum[j]);                                                                                   \
      }                                                                                                                        \
    }                                                                                                                          \
  }                                                                                                                            \
  TARGET static void NAME##_rows(const Product* p, int first, int last) {                                                      \
    int parts = (p->m + MOST - 1) / MOST;                                                                                      \
    for (int column = first; column < last; column += 4) {                                                                     \
      if (last - column < 4) {                                                                                                 \
        for (int row = 0; row < p->m; row++)                                                                                   \
          for (int left = column; left < last; left++) NAME##_rows_of(p, 1, row, left, 1);                                     \
        break;                                                                                                                 \
      }                                                                                                                        \
      for (int part = 0, row = 0, m; part < parts; part++, row += m) {                                                         \
        m = (p->m - row) / (parts - part);                                                                                     \
        switch (m) {                                                                                                           \
          case 1: NAME##_rows_of(p, 1, row, column, 4); break;                                                                 \
          case 2: NAME##_rows_of(p, 2, row, column, 4); break;                                                                 \
          case 3: NAME##_rows_of(p, 3, row, column, 4); break;                                                                 \
          case 4: NAME##_rows_of(p, MOST < 4 ? MOST : 4, row, column, 4); break;                                               \
          default: NAME##_rows_of(p, MOST, row, column, 4);                                                                    \
        }                                                                                                                      \
      }                                                                                                                        \
    }                                                                                                                          \
  }                                                                                                                            \
  /* `wide` vectors of the result for `m` rows. */                                                                             \
  TARGET static INLINE void NAME##_columns_of(const Product* p, int m, int wide, int row, int column) {                        \
    NAME##_v sums[DEEP][REGISTERS];                                                                                            \
    UNROLL for (int i = 0; i < m; i++) UNROLL for (int j = 0; j < wide; j++) sums[i][j] = (NAME##_v){0};                       \
    const float* a = p->a + (size_t)row * p->lda;                                                                              \
    const NUMBER* b = (const NUMBER*)p->b + column;                                                                            \
    for (int at = 0; at < p->k; at++, b += p->ldb) {                                                                           \
      float x[DEEP];                                                                                                           \
      UNROLL for (int i = 0; i < m; i++) x[i] = a[(size_t)i * p->lda + at];                                                    \
      UNROLL for (int j = 0; j < wide; j++) {                                                                                  \
        NAME##_v y = LOAD(NAME##_v, b + j * WIDTH);                                                                            \
        if (m > 1) HOLD(y);                                                                                                    \
        UNROLL for (int i = 0; i < m; i++) sums[i][j] += x[i] * y;                                                             \
      }                                                                                                                        \
    }                                                                                                                          \
    UNROLL for (int i = 0; i < m; i++) UNROLL for (int j = 0; j < wide; j++) {                                                 \
      NAME##_v* c = (NAME##_v*)(p->c + (size_t)(row + i) * p->ldc + column + j * WIDTH);                                       \
      *c = p->beta == 0 ? p->alpha * sums[i][j] : p->alpha * sums[i][j] + p->beta * *c;                                        \
    }                                                                                                                          \
  }                                                                                                                            \
  /* All rows, for as many columns as are left in steps of `wide` vectors for up to MOST rows at a time. */                    \
  TARGET static INLINE int NAME##_columns_by(const Product* p, int parts, int wide, int column, int last) {                    \
    for (; column + wide * WIDTH <= last; column += wide * WIDTH) {                                                            \
      for (int part = 0, row = 0, m; part < parts; part++, row += m) {                                                         \
        m = (p->m - row) / (parts - part);                                                                                     \
        switch (m) {                                                                                                           \
          case 1: NAME##_columns_of(p, 1, wide, row, column); break;                                                           \
          case 2: NAME##_columns_of(p, 2, wide, row, column); break;                                                           \
          case 3: NAME##_columns_of(p, 3, wide, row, column); break;                                                           \
          case 4: NAME##_columns_of(p, MOST < 4 ? MOST : 4, wide, row, column); break;                                         \
          default: NAME##_columns_of(p, MOST, wide, row, column);                                                              \
        }                                                                                                                      \
      }                                                                                                                        \
    }                                                                                                                          \
    return column;                                                                                                             \
  }                                                                                                                            \
  /* A few rows more at once: else the matrix would be read twice. */                                                          \
  TARGET static INLINE int NAME##_columns_deep(const Product* p, int column, int last) {                                       \
    if (p->m == 6)                                                                                                             \
      for (; column + 4 * WIDTH <= last; column += 4 * WIDTH) NAME##_columns_of(p, 6, 4, 0, column);                           \
    if (p->m == DEEP)                                                                                                          \
      for (; column + 3 * WIDTH <= last; column += 3 * WIDTH) NAME##_columns_of(p, DEEP, 3, 0, column);                        \
    return column;                                                                                                             \
  }                                                                                                                            \
  TARGET static void NAME##_columns(const Product* p, int first, int last) {                                                   \
    int parts = (p->m + MOST - 1) / MOST, column = first;                                                                      \
    /* As many sums as there are registers for: the wider, the longer the stretches that are read. */                          \
    if (p->m == 1)                                                                                                             \
      for (; column + REGISTERS / 2 * WIDTH <= last; column += REGISTERS / 2 * WIDTH)                                          \
        NAME##_columns_of(p, 1, REGISTERS / 2, 0, column);                                                                     \
    if (p->m == 2)                                                                                                             \
      for (; column + REGISTERS / 4 * WIDTH <= last; column += REGISTERS / 4 * WIDTH)                                          \
        NAME##_columns_of(p, 2, REGISTERS / 4, 0, column);                                                                     \
    if (REGISTERS >= 32 && p->m > MOST && p->m <= DEEP) column = NAME##_columns_deep(p, column, last);                         \
    column = NAME##_columns_by(p, parts, 4, column, last);                                                                     \
    column = NAME##_columns_by(p, parts, 1, column, last);                                                                     \
    for (; column < last; column++)                                                                                            \
      for (int row = 0; row < p->m; row++) {                                                                                   \
        float sum = 0;                                                                                                         \
        const NUMBER* b = (const NUMBER*)p->b + column;                                                                        \
        for (int at = 0; at < p->k; at++) sum += p->a[(size_t)row * p->lda + at] * ONE(b[(size_t)at * p->ldb]);                \
        put(p, row, column, sum);                                                                                              \
      }                                                                                                                        \
  }

#define AS_IT_LIES(V, at) (*(const V*)(at))

/* Adds the halves of a vector, then the quarters, until every number is the sum of all. */
#if defined(__clang__)
#define FOLD(x, y, ...) x += __builtin_shufflevector(x, x, __VA_ARGS__)
#else
#define FOLD(x, y, ...) x += __builtin_shuffle(x, (y){__VA_ARGS__})
#endif

#if defined(__x86_64__)
/* Read once, not again for every row. */
#define HOLD(x) __asm__("" : "+v"(x))
#define AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,f16c")))
#define AVX2 __attribute__((target("avx2,fma,f16c")))
typedef int lanes16 __attribute__((vector_size(64)));
typedef int lanes8 __attribute__((vector_size(32)));
#define HALVES16(x)                                                               \
  FOLD(x, lanes16, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);         \
  FOLD(x, lanes16, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);         \
  FOLD(x, lanes16, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);         \
  FOLD(x, lanes16, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#define HALVES8(x)                               \
  FOLD(x, lanes8, 4, 5, 6, 7, 0, 1, 2, 3);       \
  FOLD(x, lanes8, 2, 3, 0, 1, 6, 7, 4, 5);       \
  FOLD(x, lanes8, 1, 0, 3, 2, 5, 4, 7, 6)
#define WIDEN16(V, at) ((V)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(at))))
#define WIDEN8(V, at) ((V)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(at))))
KERNELS(wide, AVX512, float, AS_IT_LIES, , 16, 32, 5, HALVES16)
KERNELS(half, AVX2, float, AS_IT_LIES, , 8, 16, 3, HALVES8)
KERNELS(wide_of_16_bits, AVX512, uint16_t, WIDEN16, _cvtsh_ss, 16, 32, 5, HALVES16)
KERNELS(half_of_16_bits, AVX2, uint16_t, WIDEN8, _cvtsh_ss, 8, 16, 3, HALVES8)
#else
#define HOLD(x) __asm__("" : "+w"(x))
typedef int lanes4 __attribute__((vector_size(16)));
#define HALVES4(x)               \
  FOLD(x, lanes4, 2, 3, 0, 1);   \
  FOLD(x, lanes4, 1, 0, 3, 2)
#define WIDEN4(V, at) ((V)vcvt_f32_f16(vld1_f16((const __fp16*)(at))))
KERNELS(neon, , float, AS_IT_LIES, , 4, 32, 5, HALVES4)
KERNELS(neon_of_16_bits, , __fp16, WIDEN4, (float), 4, 32, 5, HALVES4)
#endif

/* For matrices of 32 bits, and of 16. */
static Kernel by_rows[2], by_columns[2];
static int most_threads = 1;
int scipy_openblas_get_num_threads(void);
void scipy_cblas_sgemm(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
/* CBLAS's numbers for rows first, as it is, and transposed. */
enum { BY_ROWS = 101, AS_IT_IS = 111, TRANSPOSED = 112 };

__attribute__((constructor)) static void choose(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("f16c")) {
    by_rows[0] = wide_rows, by_columns[0] = wide_columns;
    by_rows[1] = wide_of_16_bits_rows, by_columns[1] = wide_of_16_bits_columns;
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    by_rows[0] = half_rows, by_columns[0] = half_columns;
    by_rows[1] = half_of_16_bits_rows, by_columns[1] = half_of_16_bits_columns;
  }
#else
  by_rows[0] = neon_rows, by_columns[0] = neon_columns;
  by_rows[1] = neon_of_16_bits_rows, by_columns[1] = neon_of_16_bits_columns;
#endif
  /* What the user allows: OPENBLAS_NUM_THREADS, else the cores. */
  most_threads = scipy_openblas_get_num_threads();
}

/* A product that several cores work on. `turn` holds the number of the product and that of the next piece: who takes a
 * piece changes it, and fails to when the product is no longer the one that was looked at. */
static struct {
  Product product;
  Kernel kernel;
  int count, piece;
  _Atomic uint64_t turn;
  _Atomic uint32_t pieces, done;
  /* Changes with every product; helpers sleep on it. */
  _Atomic uint32_t number;
  _Atomic uint32_t sleeping;
} shared;
static pthread_mutex_t sharing = PTHREAD_MUTEX_INITIALIZER;

static void pause_a_little(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  __asm__ __volatile__("yield");
#endif
}

/* Takes pieces of the product `number` until none is left. */
static void work(uint32_t number) {
  for (;;) {
    uint64_t turn = atomic_load_explicit(&shared.turn, memory_order_acquire);
    uint32_t piece = (uint32_t)turn;
    if ((uint32_t)(turn >> 32) != number || piece >= atomic_load(&shared.pieces)) return;
    Product product = shared.product;
    Kernel kernel = shared.kernel;
    int first = (int)piece * shared.piece, count = shared.count, size = shared.piece;
    if (!atomic_compare_exchange_strong(&shared.turn, &turn, turn + 1)) continue;
    kernel(&product, first, count - first < size ? count : first + size);
    atomic_fetch_add_explicit(&shared.done, 1, memory_order_release);
  }
}

static void* help(void* nothing) {
  uint32_t seen = 0;
  for (;;) {
    uint32_t number;
    int spins = 0;
    while ((number = atomic_load_explicit(&shared.number, memory_order_acquire)) == seen) {
      if (++spins < SPINS) {
        pause_a_little();
        continue;
      }
      atomic_fetch_add(&shared.sleeping, 1);
      syscall(SYS_futex, &shared.number, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
      atomic_fetch_sub(&shared.sleeping, 1);
      spins = 0;
    }
    seen = number;
    work(number);
  }
  return nothing;
}

/* The helpers, started when first wanted; how many there are besides the caller. */
static int helpers(void) {
  static int running = -1;
  if (running < 0) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (running = 0; running < most_threads - 1; running++) {
      pthread_t thread;
      if (pthread_create(&thread, &attributes, help, NULL) != 0) break;
    }
    pthread_attr_destroy(&attributes);
  }
  return running;
}

/* Has every core take pieces of `piece` out of `count` rows or columns. */
static void share(const Product* product, Kernel kernel, int count, int piece) {
  /* Two products at once: the second has its core to itself. */
  if (most_threads < 2 || piece >= count || pthread_mutex_trylock(&sharing) != 0) {
    kernel(product, 0, count);
    return;
  }
  if (helpers() == 0) {
    pthread_mutex_unlock(&sharing);
    kernel(product, 0, count);
    return;
  }
  uint32_t number = atomic_load(&shared.number) + 1;
  shared.product = *product, shared.kernel = kernel, shared.count = count, shared.piece = piece;
  uint32_t pieces = (uint32_t)((count + piece - 1) / piece);
  atomic_store(&shared.done, 0);
  atomic_store(&shared.pieces, pieces);
  atomic_store_explicit(&shared.turn, (uint64_t)number << 32, memory_order_release);
  atomic_store_explicit(&shared.number, number, memory_order_release);
  if (atomic_load(&shared.sleeping) > 0) syscall(SYS_futex, &shared.number, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
  work(number);
  for (int spins = 0; atomic_load_explicit(&shared.done, memory_order_acquire) < pieces; spins++)
    if (spins < SPINS) pause_a_little();
    else syscall(SYS_sched_yield);
  pthread_mutex_unlock(&sharing);
}

/* Some rows of a product, by the BLAS. */
static void some_rows(const Product* p, int first, int last) {
  scipy_cblas_sgemm(BY_ROWS, AS_IT_IS, p->by_rows_of_b ? TRANSPOSED : AS_IT_IS, last - first, p->n, p->k, p->alpha,
                    p->a + (size_t)first * p->lda, p->lda, (const float*)p->b, p->ldb, p->beta, p->c + (size_t)first * p->ldc, p->ldc);
}

int products_of_16_bits(void) { return by_rows[1] != 0; }

int product_of_rows(int of_16_bits, int by_rows_of_b, int m, int n, int k, float alpha, const float* a, int lda, const void* b,
                    int ldb, float beta, float* c, int ldc) {
  if (k <= 0) return 0;
  if (m > MOST_ROWS) {
    if (of_16_bits || most_threads < 2 || (int64_t)m * n * k < WORTH_PARTING || scipy_openblas_get_num_threads() != 1) return 0;
    Product product = {a, b, c, m, n, k, lda, ldb, ldc, alpha, beta, by_rows_of_b};
    /* Two pieces a core, so that one that is busy elsewhere gets fewer. */
    int piece = (m + 2 * most_threads - 1) / (2 * most_threads);
    share(&product, some_rows, m, piece < MOST_ROWS ? MOST_ROWS : piece);
    return 1;
  }
  if (by_rows[of_16_bits] == 0) return 0;
  /* One column lies as one row does. */
  if (!by_rows_of_b && n == 1 && ldb == 1) by_rows_of_b = 1, ldb = k;
  Product product = {a, b, c, m, n, k, lda, ldb, ldc, alpha, beta, by_rows_of_b};
  int piece = n;
  if ((int64_t)m * n * k >= WORTH_SHARING) {
    piece = PIECE / k;
    /* Whole vectors, and whole lines of the cache, in each. */
    piece = piece < 64 ? 64 : piece / 64 * 64;
  }
  share(&product, (by_rows_of_b ? by_rows : by_columns)[of_16_bits], n, piece);
  return 1;
}

#else

int products_of_16_bits(void) { return 0; }

int product_of_rows(int of_16_bits, int by_rows_of_b, int m, int n, int k, float alpha, const float* a, int lda, const void* b,
                    int ldb, float beta, float* c, int ldc) {
  return 0;
}

#endif
