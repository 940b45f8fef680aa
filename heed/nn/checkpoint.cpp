#include "heed/nn/checkpoint.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/SequenceNumber.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <algorithm>
#include <mutex>
#include <type_traits>
#include <unordered_set>
#include <utility>

namespace heed::nn {
namespace {

using torch::autograd::Edge;
using torch::autograd::edge_list;
using torch::autograd::Node;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

at::Tensor random_state() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_random_state(const at::Tensor& state) {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

// Puts torch's generator back when it goes.
class RandomStateGuard {
 public:
  explicit RandomStateGuard(const at::Tensor& state) : before_(random_state()) {
    set_random_state(state);
  }
  ~RandomStateGuard() { set_random_state(before_); }

 private:
  at::Tensor before_;
};

// Autocast as it was in the forward pass. Never with its cache of parameters: the tensors there
// belong to other graphs than the one that runs again.
class AutocastGuard {
 public:
  struct State {
    bool enabled = at::autocast::is_autocast_enabled(at::kCPU);
    at::ScalarType dtype = at::autocast::get_autocast_dtype(at::kCPU);
    bool cache = false;
  };

  explicit AutocastGuard(const State& state) {
    before_.cache = at::autocast::is_autocast_cache_enabled();
    set(state);
  }
  ~AutocastGuard() { set(before_); }

 private:
  static void set(const State& state) {
    at::autocast::set_autocast_enabled(at::kCPU, state.enabled);
    at::autocast::set_autocast_dtype(at::kCPU, state.dtype);
    at::autocast::set_autocast_cache_enabled(state.cache);
  }

  State before_;
};

// One run of the function: its outputs, and where their graph leaves it, each place once, in the
// order in which a walk over the graph finds them.
struct Run {
  variable_list outputs;
  edge_list leaving;
};

// Tells the nodes that a thread makes from now on from all others.
class NewNodes {
 public:
  bool has(const Node& node) const {
    return node.thread_id() == thread_ && node.sequence_nr() >= first_ &&
           node.sequence_nr() < at::sequence_number::peek();  // leaves have the largest number
  }

 private:
  uint64_t thread_ = at::RecordFunction::currentThreadId();
  uint64_t first_ = at::sequence_number::peek();
};

edge_list leaving_edges(const variable_list& outputs, const NewNodes& inside) {
  edge_list leaving, open;
  std::unordered_set<const Node*> visited;
  for (const at::Tensor& output : outputs) {
    if (output.defined() && output.requires_grad()) {
      open.push_back(torch::autograd::impl::gradient_edge(output));
    }
  }
  while (!open.empty()) {
    const Edge edge = open.back();
    open.pop_back();
    if (!edge.is_valid()) continue;
    if (!inside.has(*edge.function)) {
      if (std::find(leaving.begin(), leaving.end(), edge) == leaving.end()) {
        leaving.push_back(edge);
      }
    } else if (visited.insert(edge.function.get()).second) {
      const edge_list& next = edge.function->next_edges();
      open.insert(open.end(), next.begin(), next.end());
    }
  }
  return leaving;
}

Run run(const CheckpointFunction& function, const variable_list& inputs) {
  const at::AutoGradMode graph(true);
  const NewNodes inside;
  Run result;
  result.outputs = function(inputs);
  result.leaving = leaving_edges(result.outputs, inside);
  return result;
}

// Makes the nodes that a graph leaves through its ends, so that the engine computes this graph's
// share of their gradients and nothing beyond: neither where they lead, which may well be to others
// of them, nor the hooks of their tensors, which are for the whole gradient.
class EndsGuard {
 public:
  explicit EndsGuard(const edge_list& leaving) {
    for (const Edge& edge : leaving) {
      Node& node = *edge.function;
      held_.push_back({&node, std::exchange(node.next_edges(), {}),
                       std::exchange(node.tensor_pre_hooks(), {}),
                       std::exchange(node.retains_grad_hooks(), {})});
    }
  }
  ~EndsGuard() {  // backwards: a node that stands here twice gave all the first time
    for (auto held = held_.rbegin(); held != held_.rend(); ++held) {
      held->node->next_edges() = std::move(held->next_edges);
      held->node->tensor_pre_hooks() = std::move(held->pre_hooks);
      held->node->retains_grad_hooks() = std::move(held->retains_grad_hooks);
    }
  }

 private:
  struct Held {
    Node* node;
    edge_list next_edges;
    std::remove_reference_t<decltype(std::declval<Node&>().tensor_pre_hooks())> pre_hooks;
    std::remove_reference_t<decltype(std::declval<Node&>().retains_grad_hooks())>
        retains_grad_hooks;
  };
  std::vector<Held> held_;
};

// The function as a node of the graph: from gradients of its outputs to gradients at the edges
// through which its own graph leaves.
class CheckpointNode : public Node {
 public:
  CheckpointNode(const CheckpointFunction& function, const variable_list& inputs,
                 const at::Tensor& random, const AutocastGuard::State& autocast)
      : function_(function), random_(random), autocast_(autocast) {
    for (const at::Tensor& input : inputs) inputs_.emplace_back(input, /*is_output=*/false);
  }

  std::string name() const override { return "HeedCheckpoint"; }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    function_ = nullptr;
    inputs_.clear();
  }

  variable_list apply(variable_list&& d_outputs) override {
    const bool create_graph = at::GradMode::is_enabled();
    const auto [function, inputs] = kept();
    Run again;
    {
      const RandomStateGuard same_numbers(random_);
      const AutocastGuard same_precision(autocast_);
      again = run(function, inputs);
    }
    TORCH_CHECK(again.leaving == next_edges(),
                "[checkpoint] function: expected what it reads to be the same each time, got ",
                again.leaving.size(), " tensors with gradients after ", next_edges().size());
    edge_list roots;
    variable_list d_roots;
    for (size_t i = 0; i < d_outputs.size(); ++i) {
      const at::Tensor& output = again.outputs[i];
      if (!d_outputs[i].defined() || !output.defined() || !output.requires_grad()) continue;
      roots.push_back(torch::autograd::impl::gradient_edge(output));
      d_roots.push_back(d_outputs[i]);
    }
    if (roots.empty()) return variable_list(next_edges().size());
    const EndsGuard ends(again.leaving);
    return torch::autograd::Engine::get_default_engine().execute(
        roots, d_roots, /*keep_graph=*/create_graph, create_graph, /*accumulate_grad=*/false,
        again.leaving);
  }

 private:
  std::pair<CheckpointFunction, variable_list> kept() {
    const std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(function_, torch::autograd::ERR_BACKWARD_TWICE);
    variable_list inputs;
    for (const SavedVariable& input : inputs_) inputs.push_back(input.unpack());
    return {function_, inputs};
  }

  CheckpointFunction function_;
  std::vector<SavedVariable> inputs_;
  at::Tensor random_;
  AutocastGuard::State autocast_;
};

}  // namespace

variable_list checkpoint(const CheckpointFunction& function, const variable_list& inputs) {
  if (!at::GradMode::is_enabled()) return function(inputs);
  const at::Tensor random = random_state();
  const AutocastGuard::State autocast;
  Run first;
  {
    const AutocastGuard no_cache(autocast);
    first = run(function, inputs);  // its graph says where gradients go, and is dropped below
  }
  if (first.leaving.empty()) return first.outputs;
  const auto node = c10::make_intrusive<CheckpointNode>(function, inputs, random, autocast);
  node->set_next_edges(std::move(first.leaving));
  variable_list outputs;
  for (const at::Tensor& output : first.outputs) {
    const bool differentiable = output.defined() && output.requires_grad();
    outputs.push_back(differentiable ? output.detach() : output);
    torch::autograd::set_history(differentiable ? outputs.back() : at::Tensor(), node);
  }
  return outputs;
}

at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& function,
                      const at::Tensor& input) {
  const CheckpointFunction of_lists = [function](const variable_list& inputs) {
    return variable_list{function(inputs[0])};
  };
  return checkpoint(of_lists, {input})[0];
}

}  // namespace heed::nn
