/* The parts of a layer, each in one go. MLX makes them of dozens of operations, which for the few rows of a token or a round
 * cost more to dispatch than to compute, and its wheel takes exponentials one by one. Plain loops,
 * compiled once for each kind of processor; the products are asked of the BLAS as everybody's are. */

#include "fused.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rows.h"

/* CBLAS's numbers for rows first, as it is, and transposed. */
enum { BY_ROWS = 101, AS_IT_IS = 111, TRANSPOSED = 112 };
void cblas_sgemm(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);

/* Sums and maxima are taken in so many lanes, which vectors of any processor fit into. */
enum { LANES = 16 };

/* Room for what lies between two sums. Each thread keeps what a round needs, since the system would clear its pages each time;
 * what a long prompt needs goes back. `slot`: 0 for a part, 1 for what is called from it, 2 for a
 * model, 3 for its logits, 4 for a matrix of 16 bits that many rows are multiplied with. */
enum { KEPT = 1 << 22 };
static _Thread_local struct {
  float* room;
  size_t size;
} kept[5];

static float* borrow(int slot, size_t size) {
  if (size > KEPT) return malloc(size * sizeof(float));
  if (kept[slot].size < size) {
    free(kept[slot].room);
    kept[slot].room = malloc(size * sizeof(float));
    kept[slot].size = kept[slot].room ? size : 0;
  }
  return kept[slot].room;
}

static void give_back(int slot, float* room) {
  if (room != kept[slot].room) free(room);
}

#define INLINE static inline __attribute__((always_inline))

/* The exponential to within two units in the last place between the smallest and the largest normal result, beyond
 * which it stays there: 2^n times the polynomial of Cephes' expf (Moshier) for the rest. */
INLINE float exponential(float x) {
  x = x < -87.3f ? -87.3f : x > 88.3f ? 88.3f : x;
  /* To the nearest whole number: what is added leaves no place behind the point. */
  float n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
  float rest = x - n * 0.693359375f + n * 2.12194440e-4f;
  float sum = 1.9875691500e-4f;
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.0f;
  union {
    int32_t bits;
    float power;
  } two = {((int32_t)n + 127) << 23};
  return sum * two.power;
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

INLINE float sum_of(const float* lanes) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += lanes[i];
  return sum;
}

INLINE void norm_row(const float* x, const float* weight, float* y, int columns, float eps) {
  float lanes[LANES] = {0};
  int at = 0;
  for (; at + LANES <= columns; at += LANES)
    for (int i = 0; i < LANES; i++) lanes[i] += x[at + i] * x[at + i];
  float squares = sum_of(lanes);
  for (; at < columns; at++) squares += x[at] * x[at];
  float factor = 1.0f / sqrtf(squares / (float)columns + eps);
  if (weight)
    for (int i = 0; i < columns; i++) y[i] = x[i] * factor * weight[i];
  else
    for (int i = 0; i < columns; i++) y[i] = x[i] * factor;
}

INLINE void norm_rows(const float* x, const float* weight, float* y, int rows, int columns, float eps) {
  for (int row = 0; row < rows; row++)
    norm_row(x + (size_t)row * columns, weight, y + (size_t)row * columns, columns, eps);
}

/* A number of 16 bits (IEEE 754 binary16): its exponent counts from elsewhere, which a factor puts right, for the smallest too. */
INLINE float widened(uint16_t number) {
  union {
    uint32_t bits;
    float number;
  } wide = {(uint32_t)(number & 0x7fff) << 13};
  wide.number *= 0x1p112f;
  /* No number, or none that is finite. */
  if ((number & 0x7c00) == 0x7c00) wide.bits |= 0x7f800000;
  wide.bits |= (uint32_t)(number & 0x8000) << 16;
  return wide.number;
}

INLINE void widen(const uint16_t* x, float* y, long count) {
  for (long i = 0; i < count; i++) y[i] = widened(x[i]);
}

INLINE void gated_rows(const float* x, float* y, long rows, int columns, int activation) {
  for (long row = 0; row < rows; row++) {
    const float* gate = x + 2 * row * columns;
    const float* up = gate + columns;
    float* to = y + row * columns;
    if (activation == FUSED_SILU)
      for (int i = 0; i < columns; i++) to[i] = gate[i] * sigmoid(gate[i]) * up[i];
    else
      /* (1 + tanh z) / 2 is the sigmoid of 2 z; 2 sqrt(2 / pi). */
      for (int i = 0; i < columns; i++) {
        float g = gate[i];
        to[i] = g * sigmoid(g * 1.5957691216057308f * (1.0f + 0.044715f * g * g)) * up[i];
      }
  }
}

/* A head turned to its position. */
INLINE void turn(const float* x, const float* cos, const float* sin, float* y, int length, int traditional) {
  if (traditional) {
    for (int i = 0; i + 1 < length; i += 2) {
      y[i] = x[i] * cos[i] + x[i + 1] * sin[i];
      y[i + 1] = x[i + 1] * cos[i + 1] + x[i] * sin[i + 1];
    }
    return;
  }
  int half = length / 2;
  for (int i = 0; i < half; i++) y[i] = x[i] * cos[i] + x[half + i] * sin[i];
  for (int i = 0; i < half; i++) y[half + i] = x[half + i] * cos[half + i] + x[i] * sin[half + i];
}

/* The scores from `first` to `last` as shares of one; the others are none. */
INLINE void softmax(float* scores, int first, int last, int all) {
  float most = scores[first];
  float lanes[LANES];
  int at = first;
  if (last - first >= LANES) {
    memcpy(lanes, scores + first, sizeof lanes);
    for (at += LANES; at + LANES <= last; at += LANES)
      for (int i = 0; i < LANES; i++) lanes[i] = scores[at + i] > lanes[i] ? scores[at + i] : lanes[i];
    for (int i = 0; i < LANES; i++) most = lanes[i] > most ? lanes[i] : most;
  }
  for (; at < last; at++) most = scores[at] > most ? scores[at] : most;
  for (int i = first; i < last; i++) scores[i] = exponential(scores[i] - most);
  memset(lanes, 0, sizeof lanes);
  for (at = first; at + LANES <= last; at += LANES)
    for (int i = 0; i < LANES; i++) lanes[i] += scores[at + i];
  float sum = sum_of(lanes);
  for (; at < last; at++) sum += scores[at];
  float share = 1.0f / sum;
  for (int i = first; i < last; i++) scores[i] *= share;
  memset(scores, 0, (size_t)first * sizeof *scores);
  memset(scores + last, 0, (size_t)(all - last) * sizeof *scores);
}

/* Where the largest number of a row is, the first of them where several are. */
INLINE unsigned largest(const float* x, int columns) {
  float lanes[LANES], most = x[0];
  int at = 0;
  if (columns >= LANES) {
    memcpy(lanes, x, sizeof lanes);
    for (at = LANES; at + LANES <= columns; at += LANES)
      for (int i = 0; i < LANES; i++) lanes[i] = x[at + i] > lanes[i] ? x[at + i] : lanes[i];
    for (int i = 0; i < LANES; i++) most = lanes[i] > most ? lanes[i] : most;
  }
  for (; at < columns; at++) most = x[at] > most ? x[at] : most;
  for (int i = 0; i < columns; i++)
    if (x[i] == most) return (unsigned)i;
  return 0;
}

INLINE void largest_rows(const float* x, int rows, int stride, int columns, unsigned* places) {
  for (int row = 0; row < rows; row++) places[row] = largest(x + (size_t)row * stride, columns);
}

/* The head `head` of a row, normed where heads are, at its position; `normed` has room for a head. */
INLINE void placed(const fused_attention* how, const fused_turns* turns, const float* qkv, int row, int head, float* normed,
                   float* to) {
  int length = how->length;
  const float* x = qkv + ((size_t)row * (how->heads + 2 * how->kv_heads) + head) * length;
  if (turns->norm) {
    norm_row(x, turns->norm + (size_t)head * length, normed, length, how->eps);
    x = normed;
  }
  turn(x, turns->cos + row * turns->cos_stride, turns->sin + row * turns->sin_stride, to, length, how->traditional);
}

INLINE int mix(const fused_attention* how, int rows, const float* qkv, const fused_turns* turns, const fused_cache* cache,
               float* mixed) {
  int heads = how->heads, kv_heads = how->kv_heads, length = how->length;
  int group = heads / kv_heads, all = heads + 2 * kv_heads, seen = how->start + rows - how->from;
  /* Of one key head: the queries, the scores, and the sums before they are put side by side. */
  size_t queries_size = (size_t)group * rows * length, scores_size = (size_t)group * rows * seen;
  float* queries = borrow(1, 2 * queries_size + scores_size + length);
  if (!queries) return 0;
  float* scores = queries + queries_size;
  float* sums = scores + scores_size;
  float* normed = sums + queries_size;
  for (int kv = 0; kv < kv_heads; kv++) {
    float* keys = cache->keys + (size_t)kv * cache->capacity * length;
    float* values = cache->values + (size_t)kv * cache->capacity * length;
    for (int row = 0; row < rows; row++) {
      for (int one = 0; one < group; one++)
        placed(how, turns, qkv, row, kv * group + one, normed, queries + ((size_t)one * rows + row) * length);
      size_t at = (size_t)(how->start + row) * length;
      placed(how, turns, qkv, row, heads + kv, normed, keys + at);
      memcpy(values + at, qkv + ((size_t)row * all + heads + kv_heads + kv) * length, (size_t)length * sizeof *values);
    }
    size_t from = (size_t)how->from * length;
    cblas_sgemm(BY_ROWS, AS_IT_IS, TRANSPOSED, group * rows, seen, length, 1, queries, length, keys + from, length, 0, scores, seen);
    for (int one = 0; one < group; one++)
      for (int row = 0; row < rows; row++) {
        int last = how->start + row + 1 - how->from;
        int first = how->window > 0 && last > how->window ? last - how->window : 0;
        softmax(scores + ((size_t)one * rows + row) * seen, first, last, seen);
      }
    float* out = mixed + (size_t)kv * group * length;
    /* With one row the heads lie side by side as they come. */
    float* product = rows == 1 ? out : sums;
    cblas_sgemm(BY_ROWS, AS_IT_IS, AS_IT_IS, group * rows, length, seen, 1, scores, seen, values + from, length, 0, product, length);
    for (int one = 0; rows > 1 && one < group; one++)
      for (int row = 0; row < rows; row++)
        memcpy(out + ((size_t)row * heads + one) * length, sums + ((size_t)one * rows + row) * length,
               (size_t)length * sizeof *out);
  }
  give_back(1, queries);
  return 1;
}

/* The above for one kind of processor. */
#define FOR(NAME, TARGET)                                                                                                      \
  TARGET static void norm_##NAME(const float* x, const float* weight, float* y, int rows, int columns, float eps) {            \
    norm_rows(x, weight, y, rows, columns, eps);                                                                               \
  }                                                                                                                            \
  TARGET static void gated_##NAME(const float* x, float* y, long rows, int columns, int activation) {                          \
    gated_rows(x, y, rows, columns, activation);                                                                               \
  }                                                                                                                            \
  TARGET static void largest_##NAME(const float* x, int rows, int stride, int columns, unsigned* places) {                     \
    largest_rows(x, rows, stride, columns, places);                                                                            \
  }                                                                                                                            \
  TARGET static void widen_##NAME(const uint16_t* x, float* y, long count) { widen(x, y, count); }                             \
  TARGET static int mix_##NAME(const fused_attention* how, int rows, const float* qkv, const fused_turns* turns,               \
                               const fused_cache* cache, float* mixed) {                                                       \
    return mix(how, rows, qkv, turns, cache, mixed);                                                                           \
  }

#if defined(__x86_64__)
FOR(wide, __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"))))
FOR(half, __attribute__((target("avx2,fma"))))
#endif
FOR(any, )

/* 2, 1 or 0. */
static int processor(void) {
#if defined(__x86_64__)
  static int kind = -1;
  if (kind < 0) {
    int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw");
    int half = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    kind = wide && half ? 2 : half ? 1 : 0;
  }
  return kind;
#else
  return 0;
#endif
}

#if defined(__x86_64__)
#define CHOSEN(PART) (processor() == 2 ? PART##_wide : processor() == 1 ? PART##_half : PART##_any)
#else
#define CHOSEN(PART) (processor() == 0 ? PART##_any : PART##_any)
#endif

void fused_norm_rows(const float* x, const float* weight, float* y, int rows, int columns, float eps) {
  CHOSEN(norm)(x, weight, y, rows, columns, eps);
}

void fused_gated_rows(const float* x, float* y, long rows, int columns, int activation) {
  CHOSEN(gated)(x, y, rows, columns, activation);
}

int fused_mix_rows(const fused_attention* how, int rows, const float* qkv, const fused_turns* turns, const fused_cache* cache,
                   float* mixed) {
  return CHOSEN(mix)(how, rows, qkv, turns, cache, mixed);
}

/* `y`: the product of `rows` rows of `x` with a matrix of `k` by `n`, on top of `onto` where that is not null. Returns 0 when there is
 * no memory for what lies between. */
static int product(const float* x, int rows, int k, const fused_matrix* matrix, int n, const float* onto, float* y) {
  const float* bias = matrix->bias;
  if (onto) memcpy(y, onto, (size_t)rows * n * sizeof *y);
  for (int row = 0; bias && row < rows; row++) {
    float* to = y + (size_t)row * n;
    if (onto)
      for (int i = 0; i < n; i++) to[i] += bias[i];
    else
      memcpy(to, bias, (size_t)n * sizeof *to);
  }
  float beta = onto || bias ? 1 : 0;
  int by_rows = matrix->transposed;
  const float* numbers = matrix->numbers;
  int stride = matrix->stride;
  float* wide = NULL;
  if (matrix->of_16_bits) {
    if (product_of_rows(1, by_rows, rows, n, k, 1, x, k, matrix->numbers, stride, beta, y, n)) return 1;
    int lines = by_rows ? n : k, length = by_rows ? k : n;
    if (!(wide = borrow(4, (size_t)n * k))) return 0;
    for (int line = 0; line < lines; line++)
      CHOSEN(widen)((const uint16_t*)matrix->numbers + (size_t)line * stride, wide + (size_t)line * length, length);
    numbers = wide, stride = length;
  }
  cblas_sgemm(BY_ROWS, AS_IT_IS, by_rows ? TRANSPOSED : AS_IT_IS, rows, n, k, 1, x, k, numbers, stride, beta, y, n);
  if (wide) give_back(4, wide);
  return 1;
}

int fused_attention_rows(const fused_attention* how, int rows, int hidden, float eps, const float* x, const fused_matrix* qkv,
                         const fused_turns* turns, const fused_cache* cache, const fused_matrix* output, float* y) {
  int width = how->heads * how->length, all = width + 2 * how->kv_heads * how->length;
  float* normed = borrow(0, (size_t)rows * (hidden + all + width));
  if (!normed) return 0;
  float* projected = normed + (size_t)rows * hidden;
  float* mixed = projected + (size_t)rows * all;
  fused_norm_rows(x, NULL, normed, rows, hidden, eps);
  int done = product(normed, rows, hidden, qkv, all, NULL, projected) && fused_mix_rows(how, rows, projected, turns, cache, mixed) &&
             product(mixed, rows, width, output, hidden, x, y);
  give_back(0, normed);
  return done;
}

int fused_mlp_rows(int rows, int hidden, int inner, float eps, int activation, const float* x, const fused_matrix* gate_up,
                   const fused_matrix* down, float* y) {
  float* normed = borrow(0, (size_t)rows * (hidden + 3 * (size_t)inner));
  if (!normed) return 0;
  float* both = normed + (size_t)rows * hidden;
  float* gated = both + 2 * (size_t)rows * inner;
  fused_norm_rows(x, NULL, normed, rows, hidden, eps);
  int done = product(normed, rows, hidden, gate_up, 2 * inner, NULL, both);
  if (done) {
    fused_gated_rows(both, gated, rows, inner, activation);
    done = product(gated, rows, inner, down, hidden, x, y);
  }
  give_back(0, normed);
  return done;
}

int fused_model_rows(const fused_model* model, const fused_layer* layers, int count, int rows, const unsigned* tokens, float* y) {
  int hidden = model->hidden;
  size_t size = (size_t)rows * hidden;
  float* x = borrow(2, 2 * size);
  if (!x) return 0;
  float* between = x + size;
  for (int row = 0; row < rows; row++) {
    size_t at = (size_t)(tokens[row] < (unsigned)model->vocab ? tokens[row] : 0) * hidden;
    float* to = x + (size_t)row * hidden;
    if (model->embedding.of_16_bits)
      CHOSEN(widen)((const uint16_t*)model->embedding.numbers + at, to, hidden);
    else
      memcpy(to, (const float*)model->embedding.numbers + at, (size_t)hidden * sizeof *to);
    for (int i = 0; i < hidden; i++) to[i] *= model->manner.embedding_factor;
  }
  int done = 1;
  for (int at = 0; done && at < count; at++) {
    const fused_layer* layer = layers + at;
    done = fused_attention_rows(&layer->how, rows, hidden, model->manner.eps, x, &layer->qkv, &layer->turns, &layer->cache, &layer->output,
                                between) &&
           fused_mlp_rows(rows, hidden, layer->inner, model->manner.eps, model->manner.activation, between, &layer->gate_up, &layer->down, x);
  }
  if (done && model->manner.wanted != FUSED_NONE) {
    int first = model->manner.wanted == FUSED_LAST ? rows - 1 : 0;
    fused_norm_rows(x + (size_t)first * hidden, model->norm, between, rows - first, hidden, model->manner.eps);
    done = product(between, rows - first, hidden, &model->head, model->logits, NULL, y);
    size_t numbers = (size_t)(rows - first) * model->logits;
    for (size_t i = 0; model->manner.logits_factor != 1 && i < numbers; i++) y[i] *= model->manner.logits_factor;
  }
  give_back(2, x);
  return done;
}

int fused_likeliest_rows(const fused_model* model, const fused_layer* layers, int count, int rows, const unsigned* tokens,
                         int among, unsigned* likeliest) {
  int wanted = model->manner.wanted == FUSED_ALL ? rows : model->manner.wanted == FUSED_LAST ? 1 : 0;
  float* logits = borrow(3, (size_t)wanted * model->logits + 1);
  if (!logits) return 0;
  int done = fused_model_rows(model, layers, count, rows, tokens, logits);
  if (done) CHOSEN(largest)(logits, wanted, model->logits, among < model->logits ? among : model->logits, likeliest);
  give_back(3, logits);
  return done;
}

int fused_continued(const fused_model* model, fused_layer* layers, int count, int rows, const unsigned* tokens, int among, int steps,
                    unsigned* likeliest) {
  for (int step = 0; step < steps; step++) {
    if (!fused_likeliest_rows(model, layers, count, rows, tokens, among, likeliest + step)) return 0;
    for (int at = 0; at < count; at++) {
      fused_layer* layer = layers + at;
      layer->how.start += rows;
      layer->turns.cos += rows * layer->turns.cos_stride, layer->turns.sin += rows * layer->turns.sin_stride;
    }
    rows = 1, tokens = likeliest + step;
  }
  return 1;
}
