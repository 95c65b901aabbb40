/* Parts of a transformer's layer as one operation each, on rows of 32-bit numbers: see `fused.c` for the sums and
 * `fused.cpp` for MLX's side. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

/* How the rows of one pass attend. */
typedef struct {
  /* Query heads, and key heads, which are as many or fewer; numbers in a head. */
  int heads, kv_heads, length;
  /* Whether neighbours are paired by the rotation, and not halves. */
  int traditional;
  /* The position of the first row; the first position that any row sees; how many positions a row sees, 0 for all. */
  int start, from, window;
  /* What is added to the mean square of a head, where heads are normed. */
  float eps;
} fused_attention;

/* How heads are normed and rotated: cosines and signed sines by row, so many numbers from each other; `norm` is null, or has a
 * weight for each head of queries and keys. */
typedef struct {
  const float *cos, *sin, *norm;
  long cos_stride, sin_stride;
} fused_turns;

/* The buffers of a layer, each `[kv_heads, capacity, length]`. */
typedef struct {
  float *keys, *values;
  int capacity;
} fused_cache;

/* A matrix by rows, so many numbers from each other, or, transposed, by columns, of 32 bits or of 16; `bias` is added to the
 * products, or null. */
typedef struct {
  const void* numbers;
  const float* bias;
  int transposed, stride, of_16_bits;
} fused_matrix;

/* `y`: each of `rows` rows of `x` over its root mean square, times `weight` unless that is null. */
void fused_norm_rows(const float* x, const float* weight, float* y, int rows, int columns, float eps);

/* What makes the gate a factor. */
enum { FUSED_SILU = 0, FUSED_GELU_TANH = 1 };

/* `y`: the activated gates, which are the first half of each row of `x`, times its second half; `columns` in a half. */
void fused_gated_rows(const float* x, float* y, long rows, int columns, int activation);

/* Of rows `qkv`, `[rows, heads + 2 kv_heads, length]`: writes keys, rotated, and values behind the first `start` positions of the
 * buffers, and puts into `mixed`, `[rows, heads, length]`, the values that each row attends to, its own among them. This and
 * what follows return 0 when there is no memory for what lies between. */
int fused_mix_rows(const fused_attention* how, int rows, const float* qkv, const fused_turns* turns, const fused_cache* cache,
                   float* mixed);

/* `y`: the rows of `x`, `[rows, hidden]`, and what attention adds to them: norm, the product with `qkv`, the above, the product
 * with `output`. */
int fused_attention_rows(const fused_attention* how, int rows, int hidden, float eps, const float* x, const fused_matrix* qkv,
                         const fused_turns* turns, const fused_cache* cache, const fused_matrix* output, float* y);

/* `y`: the rows of `x` and what the feed-forward part adds to them: norm, the product with `gate_up`, the gates, the product
 * with `down`; `inner` columns between. */
int fused_mlp_rows(int rows, int hidden, int inner, float eps, int activation, const float* x, const fused_matrix* gate_up,
                   const fused_matrix* down, float* y);

/* A layer as a whole. */
typedef struct {
  fused_attention how;
  fused_turns turns;
  fused_cache cache;
  fused_matrix qkv, output, gate_up, down;
  int inner;
} fused_layer;

/* Which rows' logits are wanted. */
enum { FUSED_NONE = 0, FUSED_LAST = 1, FUSED_ALL = 2 };

/* What is the same for all of a model, and which rows' logits are wanted of a pass. */
typedef struct {
  int activation, wanted;
  float eps, embedding_factor, logits_factor;
} fused_manner;

/* A model as a whole. `embedding`, as it lies, has `vocab` rows; `head` gives `logits` numbers, times a factor, behind the norm `norm`. */
typedef struct {
  fused_manner manner;
  fused_matrix embedding;
  const float* norm;
  fused_matrix head;
  int hidden, vocab, logits;
} fused_model;

/* `y`: the logits of the rows that are wanted, for `rows` tokens. */
int fused_model_rows(const fused_model* model, const fused_layer* layers, int count, int rows, const unsigned* tokens, float* y);

/* The same, and of each row which of the first `among` logits is the largest; the first of them where several are. */
int fused_likeliest_rows(const fused_model* model, const fused_layer* layers, int count, int rows, const unsigned* tokens,
                         int among, unsigned* likeliest);

/* `steps` likeliest tokens, each behind the one before, the first behind `rows` tokens. There must be room in the buffers and
 * rotations for all but the last, and windows may limit no row. */
int fused_continued(const fused_model* model, fused_layer* layers, int count, int rows, const unsigned* tokens, int among, int steps,
                    unsigned* likeliest);

#ifdef __cplusplus
}
#endif
