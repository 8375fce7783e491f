// Runs one operation as a plan would: operands by name, tiles in any order, on any number of threads.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "isa/isa.h"
#include "memory/tensor.h"
#include "ops/op.h"
#include "threads/pool.h"

namespace weft::test {

// A matrix with its own memory. Columns beyond `columns` up to the stride are not the operation's.
template <typename T>
struct Table {
  int64_t rows, columns, stride;
  std::vector<T> memory;

  Table(int64_t rows, int64_t columns, int64_t gap = 0, T fill = T())
      : rows(rows), columns(columns), stride(columns + gap), memory(rows * stride + 1, fill) {}
  T* row(int64_t index) { return memory.data() + index * stride; }
  const T* row(int64_t index) const { return memory.data() + index * stride; }
  T& at(int64_t r, int64_t c) { return memory[r * stride + c]; }
  const T& at(int64_t r, int64_t c) const { return memory[r * stride + c]; }

  Matrix view() const {
    constexpr DType dtype = std::is_same_v<T, float> ? DType::kF32
                            : std::is_same_v<T, int32_t> ? DType::kI32
                            : std::is_same_v<T, int64_t> ? DType::kI64
                                                         : DType::kU32;
    return {const_cast<T*>(memory.data()), rows, columns, stride, dtype};
  }
  bool operator==(const Table& other) const {
    if (rows != other.rows || columns != other.columns) return false;
    for (int64_t r = 0; r < rows; ++r)
      if (std::memcmp(row(r), other.row(r), columns * sizeof(T)) != 0) return false;
    return true;
  }
};

// How the tiles of a phase are handed out.
struct Schedule {
  int threads = 1;
  uint32_t shuffle = 0;   // not 0: a serial run in this random order, tiles on random thread numbers
  bool real = false;      // on a pool of threads
};

// Filled with a pattern that is a NaN, so that reading what was not written shows.
class Memory {
 public:
  explicit Memory(size_t bytes) : data_(std::aligned_alloc(64, (bytes + 127) / 64 * 64)) {
    std::memset(data_, 0xff, (bytes + 127) / 64 * 64);
  }
  Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  Memory& operator=(Memory&& other) noexcept { return std::swap(data_, other.data_), *this; }
  ~Memory() { std::free(data_); }
  void* data() const { return data_; }

 private:
  void* data_;
};

// An operation with its operands and memory, as a plan would hold it.
class PreparedOp final : public Job {
 public:
  PreparedOp(const NodeSpec& spec, std::vector<Matrix> in, std::vector<Matrix> out, const Kernels& kernels, int threads)
      : op_(make(spec)), in_(std::move(in)), out_(std::move(out)), shared_(op_->shared_bytes()) {
    for (int thread = 0; thread < threads; ++thread) {
      memories_.emplace_back(op_->scratch_bytes());
      scratch_.push_back({memories_.back().data(), op_->scratch_bytes(), nullptr, 0});
    }
    args_.in = in_.data();
    args_.out = out_.data();
    args_.kernels = &kernels;
    args_.scratch = scratch_.data();
    args_.shared = shared_.data();
    args_.num_threads = threads;
    begin_run();
  }

  // On a team; its threads are at most those that were prepared for.
  void run(Team& team) {
    begin_run();
    team.run(*this);
  }

  // In order, or in the random order `shuffle` with tiles on random thread numbers.
  void run_serially(uint32_t shuffle) {
    begin_run();
    for (int phase = 0; phase < op_->num_phases(); ++phase) {
      std::vector<int64_t> tiles(num_tiles(phase));
      std::iota(tiles.begin(), tiles.end(), 0);
      std::mt19937 random(shuffle);
      if (shuffle) std::shuffle(tiles.begin(), tiles.end(), random);
      for (const int64_t tile : tiles) run_tile(phase, tile, static_cast<int>(random() % args_.num_threads));
    }
  }

  int64_t num_phases() const override { return op_->num_phases(); }
  int64_t num_tiles(int64_t phase) const override { return op_->num_tiles(static_cast<int>(phase), args_); }
  void run_tile(int64_t phase, int64_t tile, int thread) override {
    op_->run_tile(static_cast<int>(phase), tile, args_, thread);
  }

 private:
  static std::unique_ptr<Op> make(const NodeSpec& spec) {
    if (!find_op(spec.op)) throw std::runtime_error("no operation " + spec.op);
    return find_op(spec.op)(spec);
  }

  void begin_run() {
    static uint64_t runs = 0;
    args_.run = ++runs;
    op_->check(args_);
  }

  std::unique_ptr<Op> op_;
  std::vector<Matrix> in_, out_;
  Memory shared_;
  std::vector<Memory> memories_;
  std::vector<ThreadScratch> scratch_;
  OpArgs args_;
};

class OpRunner {
 public:
  explicit OpRunner(const std::string& op) { spec_.op = op; }

  OpRunner& number(const std::string& name, double value) { return spec_.numbers[name] = value, *this; }
  OpRunner& text(const std::string& name, const std::string& value) { return spec_.strings[name] = value, *this; }
  OpRunner& cache(std::shared_ptr<KvCache> cache) { return spec_.caches["cache"] = std::move(cache), *this; }
  OpRunner& vector(const std::string& name, std::vector<float> values) {
    spec_.vectors[name] = std::make_shared<const std::vector<float>>(std::move(values));
    return *this;
  }
  OpRunner& weight(const std::string& name, std::shared_ptr<const Weight> weight) {
    spec_.weights[name] = std::move(weight);
    return *this;
  }
  // The table's memory, which must have no gap, is read and written in place.
  OpRunner& tensor(const std::string& name, Table<float>& table) {
    spec_.tensors[name] = std::make_shared<Tensor>(table.memory.data(), table.rows, table.columns, nullptr);
    return *this;
  }
  template <typename T>
  OpRunner& in(const std::string& name, const Table<T>& table) {
    return add(name, table.view(), spec_.inputs, in_);
  }
  template <typename T>
  OpRunner& out(const std::string& name, Table<T>& table) {
    return add(name, table.view(), spec_.outputs, out_);
  }

  // The operation with memory for `threads` threads, to be run many times.
  PreparedOp prepare(const Kernels& kernels, int threads) const {
    NodeSpec spec = spec_;
    spec.kernels = &kernels;
    return PreparedOp(spec, in_, out_, kernels, threads);
  }

  void run(const Kernels& kernels, const Schedule& schedule = {}) const {
    PreparedOp op = prepare(kernels, schedule.threads);
    if (!schedule.real) return op.run_serially(schedule.shuffle);
    Pool pool(schedule.threads, 1);
    op.run(pool.team(0));
  }

 private:
  OpRunner& add(const std::string& name, const Matrix& view, std::map<std::string, int>& names, std::vector<Matrix>& list) {
    names[name] = static_cast<int>(list.size());
    spec_.columns[name] = static_cast<int>(view.columns);
    spec_.max_rows = std::max(spec_.max_rows, view.rows);
    list.push_back(view);
    return *this;
  }

  NodeSpec spec_;
  std::vector<Matrix> in_, out_;
};

inline std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> kernels;
  for (const std::string& isa : available_isas()) kernels.push_back(&kernels_for(isa));
  return kernels;
}

}  // namespace weft::test
