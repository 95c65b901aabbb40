// The sums of `fused.c` as operations of MLX's graph, on its CPU device only, and the C interface by which they are asked for.
#include "fused.h"

#include <stdexcept>
#include <utility>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/primitives.h"

namespace {

using mlx::core::array;
using mlx::core::Primitive;
using mlx::core::Stream;
using Arrays = std::vector<array>;

// What all of them have in common.
class Fused : public Primitive {
 public:
  using Primitive::Primitive;
  void eval_gpu(const Arrays&, Arrays&) override { throw std::runtime_error("fused sums run on the CPU device only"); }

 protected:
  void dispatch(auto&& task) { mlx::core::cpu::get_command_encoder(stream()).dispatch(std::forward<decltype(task)>(task)); }
};

void make_room(array& out) { out.set_data(mlx::core::allocator::malloc(out.nbytes())); }

// Rows without gaps between or inside them.
const float* whole(const array& in) {
  if (in.size() > 1 && !in.flags().row_contiguous) throw std::runtime_error("a fused sum needs its rows without gaps");
  return in.data<float>();
}

class Norm final : public Fused {
 public:
  Norm(Stream stream, float eps) : Fused(stream), eps_(eps) {}
  const char* name() const override { return "FusedNorm"; }
  void eval_cpu(const Arrays& in, Arrays& out) override {
    make_room(out[0]);
    dispatch([x = whole(in[0]), weight = in.size() > 1 ? whole(in[1]) : nullptr, y = out[0].data<float>(),
              columns = in[0].shape(-1), rows = static_cast<int>(in[0].size() / in[0].shape(-1)),
              eps = eps_] { fused_norm_rows(x, weight, y, rows, columns, eps); });
  }

 private:
  float eps_;
};

class Gated final : public Fused {
 public:
  Gated(Stream stream, int activation) : Fused(stream), activation_(activation) {}
  const char* name() const override { return "FusedGated"; }
  void eval_cpu(const Arrays& in, Arrays& out) override {
    make_room(out[0]);
    int columns = out[0].shape(-1);
    dispatch([x = whole(in[0]), y = out[0].data<float>(), columns, rows = static_cast<long>(out[0].size()) / columns,
              activation = activation_] { fused_gated_rows(x, y, rows, columns, activation); });
  }

 private:
  int activation_;
};

// Arrays that come in, of which some may be missing: operations take those that are there, and find each by its place.
class Places {
 public:
  Places(const mlx_array* handles, int count) {
    for (int i = 0; i < count; i++) {
      places_.push_back(handles[i].ctx ? static_cast<int>(arrays_.size()) : -1);
      if (handles[i].ctx) arrays_.push_back(mlx_array_get_(handles[i]));
    }
  }
  // Those that are there, once.
  Arrays take() { return std::move(arrays_); }
  const float* numbers(const Arrays& in, int place) const { return places_[place] < 0 ? nullptr : whole(in[places_[place]]); }
  const array& at(const Arrays& in, int place) const { return in[places_[place]]; }
  const array& operator[](int place) const { return arrays_[places_[place]]; }

 private:
  std::vector<int> places_;
  Arrays arrays_;
};

// The matrix at a place and the bias at another, if there can be one.
fused_matrix matrix(const Places& places, const Arrays& in, int place, int place_of_bias) {
  const array& numbers = places.at(in, place);
  bool by_rows = numbers.strides(1) == 1;
  if (!by_rows && numbers.strides(0) != 1) throw std::runtime_error("a fused product needs its matrix by rows or by columns");
  return {numbers.data<char>(), place_of_bias < 0 ? nullptr : places.numbers(in, place_of_bias), by_rows ? 0 : 1,
          static_cast<int>(numbers.strides(by_rows ? 0 : 1)), numbers.dtype() == mlx::core::float16 ? 1 : 0};
}

// What attention takes from a place on: the buffers of keys and values, cosines and sines, and the weights of the heads' norm or none.
enum { BUFFERS = 0, TURNS = 2, HEAD_NORM = 4, OF_ATTENTION = 5 };

// Cosines and sines from the row `first` on.
fused_turns turns(const Places& places, const Arrays& in, int place, int first) {
  const array &cos = places.at(in, place + TURNS), &sin = places.at(in, place + TURNS + 1);
  for (const array* turn : {&cos, &sin})
    if (turn->size() > 1 && turn->strides(-1) != 1) throw std::runtime_error("rotations must lie by rows");
  long cos_stride = static_cast<long>(cos.strides(0)), sin_stride = static_cast<long>(sin.strides(0));
  return {cos.data<float>() + first * cos_stride, sin.data<float>() + first * sin_stride, places.numbers(in, place + HEAD_NORM),
          cos_stride, sin_stride};
}

// The buffers, which are written to where they lie. For MLX what an operation is given never changes, but a buffer that may be
// written to only when no task reads it would be copied whenever the graph is built faster than it is computed. Here nobody
// minds: what is written lies behind all that earlier passes read, passes depend on each other, and the buffers have one owner.
fused_cache cache(const Places& places, const Arrays& in, int place) {
  auto buffer = [&](int at) { return const_cast<float*>(places.numbers(in, at)); };
  return {buffer(place + BUFFERS), buffer(place + BUFFERS + 1), places.at(in, place + BUFFERS).shape(1)};
}

// Behind those of attention stands what has to be there before, or none.
class Attention : public Fused {
 public:
  Attention(Stream stream, const fused_attention& how, int first, Places places)
      : Fused(stream), how_(how), first_(first), places_(std::move(places)) {}

 protected:
  fused_attention how_;
  int first_;
  Places places_;
};

// What rows of queries, keys and values attend to.
class Mix final : public Attention {
 public:
  using Attention::Attention;
  const char* name() const override { return "FusedMix"; }
  void eval_cpu(const Arrays& in, Arrays& out) override {
    make_room(out[0]);
    dispatch([how = how_, rows = out[0].shape(0), qkv = places_.numbers(in, 0), turns = turns(places_, in, 1, first_),
              cache = cache(places_, in, 1),
              mixed = out[0].data<float>()] {
      if (!fused_mix_rows(&how, rows, qkv, &turns, &cache, mixed)) throw std::bad_alloc();
    });
  }
};

// Rows and what attention adds to them: the rows, the matrix of queries, keys and values and its bias, that of the output and its.
class WholeAttention final : public Attention {
 public:
  WholeAttention(Stream stream, const fused_attention& how, int first, Places places, float eps)
      : Attention(stream, how, first, std::move(places)), eps_(eps) {}
  const char* name() const override { return "FusedAttention"; }
  void eval_cpu(const Arrays& in, Arrays& out) override {
    make_room(out[0]);
    dispatch([how = how_, rows = out[0].shape(0), hidden = out[0].shape(1), eps = eps_, x = places_.numbers(in, 0),
              qkv = matrix(places_, in, 1, 2), output = matrix(places_, in, 3, 4), turns = turns(places_, in, 5, first_),
              cache = cache(places_, in, 5),
              y = out[0].data<float>()] {
      if (!fused_attention_rows(&how, rows, hidden, eps, x, &qkv, &turns, &cache, &output, y)) throw std::bad_alloc();
    });
  }

 private:
  float eps_;
};

// Rows and what the feed-forward part adds to them: the rows, the matrix of gate and up and its bias, that of down and its.
class WholeMlp final : public Fused {
 public:
  WholeMlp(Stream stream, int activation, float eps, Places places)
      : Fused(stream), activation_(activation), eps_(eps), places_(std::move(places)) {}
  const char* name() const override { return "FusedMlp"; }
  void eval_cpu(const Arrays& in, Arrays& out) override {
    make_room(out[0]);
    dispatch([rows = out[0].shape(0), hidden = out[0].shape(1), inner = places_.at(in, 3).shape(0), eps = eps_,
              activation = activation_, x = places_.numbers(in, 0), gate_up = matrix(places_, in, 1, 2), down = matrix(places_, in, 3, 4),
              y = out[0].data<float>()] {
      if (!fused_mlp_rows(rows, hidden, inner, eps, activation, x, &gate_up, &down, y)) throw std::bad_alloc();
    });
  }

 private:
  int activation_;
  float eps_;
  Places places_;
};

// A model's arrays: tokens or none, embedding, the last norm's weight, the head's matrix and its bias, what has to be there before or
// none, and for each layer the matrix of queries, keys and values and its bias, that of the output and its, the five of attention,
// the matrix of gate and up and its bias, that of down and its.
enum { FIRST_LAYER = 6, OF_LAYER = 4 + OF_ATTENTION + 4 };

// How each layer attends, and the row at which its cosines and sines begin.
struct Attentions {
  std::vector<fused_attention> hows;
  std::vector<int> firsts;
};

std::vector<fused_layer> layers_of(const Places& places, const Arrays& in, const Attentions& attentions) {
  std::vector<fused_layer> layers;
  for (std::size_t layer = 0; layer < attentions.hows.size(); layer++) {
    int at = FIRST_LAYER + static_cast<int>(layer) * OF_LAYER, behind = at + 4 + OF_ATTENTION;
    layers.push_back({attentions.hows[layer], turns(places, in, at + 4, attentions.firsts[layer]), cache(places, in, at + 4),
                      matrix(places, in, at, at + 1), matrix(places, in, at + 2, at + 3), matrix(places, in, behind, behind + 1),
                      matrix(places, in, behind + 2, behind + 3), places.at(in, behind + 2).shape(0)});
  }
  return layers;
}

fused_model model_of(const Places& places, const Arrays& in, const fused_manner& manner) {
  const array& embedding = places.at(in, 1);
  return {manner, matrix(places, in, 1, -1), places.numbers(in, 2), matrix(places, in, 3, 4), embedding.shape(1), embedding.shape(0),
          places.at(in, 3).shape(1)};
}

// The logits of a model.
class WholeModel final : public Fused {
 public:
  WholeModel(Stream stream, const fused_manner& manner, Attentions attentions, Places places)
      : Fused(stream), manner_(manner), attentions_(std::move(attentions)), places_(std::move(places)) {}
  const char* name() const override { return "FusedModel"; }
  void eval_cpu(const Arrays& in, Arrays& out) override {
    make_room(out[0]);
    const array& tokens = places_.at(in, 0);
    if (!tokens.flags().row_contiguous) throw std::runtime_error("tokens must lie side by side");
    dispatch([model = model_of(places_, in, manner_), layers = layers_of(places_, in, attentions_), rows = static_cast<int>(tokens.size()),
              tokens = tokens.data<unsigned>(), y = out[0].data<float>()] {
      if (!fused_model_rows(&model, layers.data(), static_cast<int>(layers.size()), rows, tokens, y)) throw std::bad_alloc();
    });
  }

 private:
  fused_manner manner_;
  Attentions attentions_;
  Places places_;
};

// An error of MLX's is told to mlx-c's handler, as all others are.
int told(auto&& work) {
  try {
    work();
    return 0;
  } catch (const std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}

}  // namespace

extern "C" int fused_norm(mlx_array* result, mlx_array x, mlx_array weight, float eps, mlx_stream stream) {
  return told([&] {
    const array& rows = mlx_array_get_(x);
    Arrays in{rows};
    if (weight.ctx) in.push_back(mlx_array_get_(weight));
    auto norm = std::make_shared<Norm>(mlx_stream_get_(stream), eps);
    mlx_array_set_(*result, array(rows.shape(), rows.dtype(), std::move(norm), std::move(in)));
  });
}

extern "C" int fused_gated(mlx_array* result, mlx_array both, int activation, mlx_stream stream) {
  return told([&] {
    const array& rows = mlx_array_get_(both);
    auto shape = rows.shape();
    shape.back() /= 2;
    auto gated = std::make_shared<Gated>(mlx_stream_get_(stream), activation);
    mlx_array_set_(*result, array(std::move(shape), rows.dtype(), std::move(gated), {rows}));
  });
}

// `in`: rows of queries, keys and values, and those of `Attention`.
extern "C" int fused_mix(mlx_array* result, const mlx_array* in, int count, const fused_attention* how, int first,
                         mlx_stream stream) {
  return told([&] {
    Places places(in, count);
    mlx::core::Shape shape{places[0].shape(0), how->heads * how->length};
    auto dtype = places[0].dtype();
    Arrays arrays = places.take();
    auto mix = std::make_shared<Mix>(mlx_stream_get_(stream), *how, first, std::move(places));
    mlx_array_set_(*result, array(std::move(shape), dtype, std::move(mix), std::move(arrays)));
  });
}

// `in`: the five of `WholeAttention`, and those of `Attention`.
extern "C" int fused_whole_attention(mlx_array* result, const mlx_array* in, int count, const fused_attention* how, int first,
                                     float eps, mlx_stream stream) {
  return told([&] {
    Places places(in, count);
    auto shape = places[0].shape();
    auto dtype = places[0].dtype();
    Arrays arrays = places.take();
    auto whole = std::make_shared<WholeAttention>(mlx_stream_get_(stream), *how, first, std::move(places), eps);
    mlx_array_set_(*result, array(std::move(shape), dtype, std::move(whole), std::move(arrays)));
  });
}

// `in`: the five of `WholeMlp`.
extern "C" int fused_whole_mlp(mlx_array* result, const mlx_array* in, int count, int activation, float eps, mlx_stream stream) {
  return told([&] {
    Places places(in, count);
    auto shape = places[0].shape();
    auto dtype = places[0].dtype();
    Arrays arrays = places.take();
    auto whole = std::make_shared<WholeMlp>(mlx_stream_get_(stream), activation, eps, std::move(places));
    mlx_array_set_(*result, array(std::move(shape), dtype, std::move(whole), std::move(arrays)));
  });
}

// `in`: a model's arrays; `how` and `first` for every layer.
extern "C" int fused_whole_model(mlx_array* result, const mlx_array* in, int count, const fused_attention* how, const int* first,
                                 int layers, const fused_manner* manner, mlx_stream stream) {
  return told([&] {
    Places places(in, count);
    int rows = manner->wanted == FUSED_ALL ? static_cast<int>(places[0].size()) : 1;
    // Where no logits are wanted a number stands for what was done.
    mlx::core::Shape shape{rows, manner->wanted == FUSED_NONE ? 1 : places[3].shape(1)};
    Arrays arrays = places.take();
    Attentions attentions{{how, how + layers}, {first, first + layers}};
    auto whole = std::make_shared<WholeModel>(mlx_stream_get_(stream), *manner, std::move(attentions), std::move(places));
    mlx_array_set_(*result, array(std::move(shape), mlx::core::float32, std::move(whole), std::move(arrays)));
  });
}

// `in`: a model's arrays but for the tokens. Computes on this thread: handing a pass of a tenth of a millisecond to MLX's, and being
// woken up when it is done, takes about as long as the pass. `steps`: 0 for one token behind each row that is wanted, else so many
// tokens one behind the other.
extern "C" int fused_likeliest(unsigned* likeliest, const unsigned* tokens, int rows, const mlx_array* in, int count,
                               const fused_attention* how, const int* first, int layers, const fused_manner* manner, int among,
                               int steps) {
  return told([&] {
    Places places(in, count);
    Arrays arrays = places.take();
    for (array& each : arrays) each.eval();
    Attentions attentions{{how, how + layers}, {first, first + layers}};
    fused_model model = model_of(places, arrays, *manner);
    std::vector<fused_layer> whole = layers_of(places, arrays, attentions);
    bool done = steps > 0 ? fused_continued(&model, whole.data(), layers, rows, tokens, among, steps, likeliest)
                          : fused_likeliest_rows(&model, whole.data(), layers, rows, tokens, among, likeliest);
    if (!done) throw std::bad_alloc();
  });
}
