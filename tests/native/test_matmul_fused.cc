// What is fused around a product gives the bits of the operations that it stands for.
#include "check.h"
#include "matmul_problem.h"

using namespace weft;
using namespace weft::test;

namespace {

constexpr float kEps = 1e-5f;

std::vector<float> random_vector(int64_t size, uint32_t seed) {
  std::vector<float> values = random_table(1, size, seed).memory;
  values.resize(static_cast<size_t>(size));
  return values;
}

Table<float> normalised(const Kernels& kernels, const std::string& norm, const Table<float>& x,
                        const std::vector<float>& weight, const std::vector<float>* bias) {
  Table<float> out(x.rows, x.columns);
  for (int64_t r = 0; r < x.rows; ++r) {
    if (norm == "rms_norm") {
      kernels.rows->rms_norm(x.row(r), weight.data(), out.row(r), x.columns, kEps);
    } else {
      kernels.rows->layer_norm(x.row(r), weight.data(), bias ? bias->data() : nullptr, out.row(r), x.columns, kEps);
    }
  }
  return out;
}

void norms_before() {
  for (const Kernels* kernels : available_kernels()) {
    for (const BlockKind kind : {BlockKind::kQ4_1, BlockKind::kQ8_0, BlockKind::kBF16, BlockKind::kF32}) {
      for (const int64_t k : {64, 65, 100}) {
        if (k % block_elements(kind)) continue;
        const FileBytes weights(kind, 50, k, 1);
        const std::shared_ptr<const Weight> packed = pack({&weights});
        const std::vector<float> norm_weight = random_vector(k, 2), norm_bias = random_vector(k, 3);
        for (const int64_t rows : {1, 4, 40, 150}) {
          const Table<float> x = random_table(rows, k, 4, 5);
          for (const std::string norm : {"rms_norm", "layer_norm"}) {
            for (const bool shifted : {false, true}) {
              if (shifted && norm == "rms_norm") continue;
              Table<float> out(rows, 50);
              OpRunner fused("linear");
              fused.weight("weight", packed).in("x", x).out("out", out).text("norm", norm).number("eps", kEps);
              fused.vector("norm_weight", norm_weight);
              if (shifted) fused.vector("norm_bias", norm_bias);
              fused.run(*kernels, {2, 5, false});
              const Table<float> before = normalised(*kernels, norm, x, norm_weight, shifted ? &norm_bias : nullptr);
              CHECK(out == run_linear(*kernels, before, packed));
            }
          }
        }
      }
    }
  }
}

void add_bias(const Kernels& kernels, Table<float>& out, const std::vector<float>& bias) {
  for (int64_t r = 0; r < out.rows; ++r) kernels.rows->add(out.row(r), bias.data(), out.row(r), out.columns);
}

void bias_activation_residual_after() {
  for (const Kernels* kernels : available_kernels()) {
    for (const int64_t n : {32, 45, 7}) {
      const FileBytes weights(BlockKind::kQ4_1, n, 96, 1);
      const std::shared_ptr<const Weight> packed = pack({&weights});
      const std::vector<float> bias = random_vector(n, 2);
      for (const int64_t rows : {1, 33}) {
        const Table<float> x = random_table(rows, 96, 3), residual = random_table(rows, n, 4, 3);
        for (const std::string activation : {"", "gelu_tanh", "gelu_erf"}) {
          Table<float> expected = run_linear(*kernels, x, packed);
          add_bias(*kernels, expected, bias);
          for (int64_t r = 0; r < rows; ++r) {
            float* row = expected.row(r);
            if (activation == "gelu_tanh") kernels->rows->gelu_tanh(row, row, n);
            if (activation == "gelu_erf") kernels->rows->gelu_erf(row, row, n);
            kernels->rows->add(row, residual.row(r), row, n);
          }
          Table<float> out = residual;  // in place
          OpRunner fused("linear");
          fused.weight("weight", packed).in("x", x).in("residual", out).out("out", out);
          fused.vector("bias", bias).text("activation", activation).run(*kernels, {2, 6, false});
          CHECK(out == expected);
        }
      }
    }
  }
}

void gates_after() {
  for (const Kernels* kernels : available_kernels()) {
    using Target = std::optional<PanelKind>;
    const std::pair<BlockKind, Target> cases[] = {{BlockKind::kQ4_1, {}}, {BlockKind::kQ4_0, {}}, {BlockKind::kQ8_0, {}},
                                                  {BlockKind::kF32, {}}, {BlockKind::kF32, PanelKind::kInt8}};
    for (const auto& [up_kind, target] : cases) {
      for (const int64_t features : {64, 16, 21, 5}) {
        // Two formats, but panels of one kind: others may read their rows in another form.
        const BlockKind gate_kind = up_kind == BlockKind::kQ8_0 ? BlockKind::kQ5_1 : BlockKind::kQ4_1;
        const FileBytes gate(gate_kind, features, 64, 1), up(up_kind, features, 64, 2);
        const std::shared_ptr<const Weight> packed = pack({&gate, &up}, true, target);
        // Joined in one format, as the interleaved weight is.
        const bool is_float = !target && up_kind == BlockKind::kF32;
        const std::shared_ptr<const Weight> gate_alone = pack({&gate}, false, is_float ? PanelKind::kF32 : target);
        const std::shared_ptr<const Weight> up_alone = pack({&up}, false, target);
        const std::vector<float> bias = random_vector(2 * features, 3);
        for (const int64_t rows : {1, 40}) {
          const Table<float> x = random_table(rows, 64, 4);
          Table<float> both(rows, 2 * features), expected(rows, features), out(rows, features);
          const Table<float> g = run_linear(*kernels, x, gate_alone), u = run_linear(*kernels, x, up_alone);
          for (int64_t r = 0; r < rows; ++r) {
            std::memcpy(both.row(r), g.row(r), static_cast<size_t>(features) * sizeof(float));
            std::memcpy(both.row(r) + features, u.row(r), static_cast<size_t>(features) * sizeof(float));
          }
          add_bias(*kernels, both, bias);
          for (int64_t r = 0; r < rows; ++r) kernels->rows->silu_gate(both.row(r), expected.row(r), features);
          OpRunner("linear").weight("weight", packed).in("x", x).out("out", out).vector("bias", bias)
              .text("activation", "silu_gate").run(*kernels, {2, 7, false});
          CHECK(out == expected);
        }
      }
    }
  }
}

void rows_are_packed_for_the_next_product() {
  for (const Kernels* kernels : available_kernels()) {
    using Target = std::optional<PanelKind>;
    const std::pair<BlockKind, Target> cases[] = {{BlockKind::kQ4_1, {}}, {BlockKind::kQ8_0, {}}, {BlockKind::kBF16, {}},
                                                  {BlockKind::kF32, {}},  {BlockKind::kF32, PanelKind::kInt8}};
    for (const auto& [kind, target] : cases) {
      const int64_t features = 384;
      const FileBytes gate(BlockKind::kQ4_1, features, 64, 1), up(BlockKind::kQ4_1, features, 64, 2);
      const FileBytes down(kind, 50, features, 3);
      const std::shared_ptr<const Weight> gate_up = pack({&gate, &up}, true), packed = pack({&down}, false, target);
      const char* name = panel_kind_name(packed->parts()[0].format.kind);
      for (const int64_t rows : {1, 5, 7, 40, 70, 300}) {
        const Table<float> x = random_table(rows, 64, 4);
        Table<float> between(rows, features), plain(rows, features), out(rows, 50);
        OpRunner first("linear");
        first.weight("weight", gate_up).in("x", x).text("activation", "silu_gate");
        OpRunner(first).out("out", plain).run(*kernels);
        for (const int threads : {1, 2, 3, 8}) {
          OpRunner(first).out("out", between).text("packs", name).run(*kernels, {threads, 1, false});
          OpRunner("linear").weight("weight", packed).in("x", between).out("out", out).number("packed_rows", 1)
              .run(*kernels, {threads, 1, false});
          CHECK(out == run_linear(*kernels, plain, packed));
        }
      }
    }
  }
}

void nodes_that_do_not_fit_are_refused() {
  const Kernels& kernels = *available_kernels().back();
  const FileBytes weights(BlockKind::kQ4_1, 32, 64, 1);
  const std::shared_ptr<const Weight> packed = pack({&weights});
  Table<float> x(1, 64), narrow(1, 32), out(1, 32), wide(1, 64);
  CHECK_ERROR(kPlan, OpRunner("linear").weight("weight", packed).in("x", narrow).out("out", out).run(kernels));
  CHECK_ERROR(kPlan, OpRunner("linear").weight("weight", packed).in("x", x).out("out", wide).run(kernels));
  CHECK_ERROR(kPlan, OpRunner("linear").in("x", x).out("out", out).run(kernels));
  const OpRunner base = OpRunner("linear").weight("weight", packed).in("x", x).out("out", out);
  CHECK_ERROR(kPlan, OpRunner(base).text("activation", "relu").run(kernels));
  CHECK_ERROR(kPlan, OpRunner(base).text("activation", "silu_gate").run(kernels));
  CHECK_ERROR(kPlan, OpRunner(base).text("norm", "rms_norm").number("eps", 1e-5).run(kernels));
  CHECK_ERROR(kPlan, OpRunner(base).vector("bias", {1.0f}).run(kernels));
  CHECK_ERROR(kPlan, OpRunner(base).in("residual", wide).run(kernels));
  CHECK_ERROR(kPlan, OpRunner(base).text("packs", "q4").run(kernels));
  const FileBytes odd(BlockKind::kQ4_1, 32, 96, 1);
  Table<float> odd_x(1, 96);
  CHECK_ERROR(kPlan, OpRunner("linear").weight("weight", pack({&odd})).in("x", odd_x).out("out", out)
                         .number("packed_rows", 1).run(kernels));
}

}  // namespace

int main(int argc, char** argv) {
  return run(argc, argv,
             {{"norms_before", norms_before},
              {"bias_activation_residual_after", bias_activation_residual_after},
              {"gates_after", gates_after},
              {"rows_are_packed_for_the_next_product", rows_are_packed_for_the_next_product},
              {"nodes_that_do_not_fit_are_refused", nodes_that_do_not_fit_are_refused}});
}
