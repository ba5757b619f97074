"""Names that vulture finds no use of in the product, each with the use that it cannot see."""
# ruff: noqa: B018, F821

# read by name from the fields of their dataclass: the policy's limits and the columns of a JSON file
(
    p99_ms,
    size_mb,
    ece,
    worst_recall,
    corruption_accuracy,
    frame_recall,
    frame_recalls,
)  # benchmarks.choose.policy: getattr(policy, limit)
built_on  # core.bundle.engine_manifest: a field of the manifest's JSON
top1_agreement  # export.verify.parity: a column of parity.json

# read by the templates of the report, by report.js or by whoever reads results.json and choice.json
list_confused, worst_classes, mb, true, DASHES, percentiles, percentiles_ms  # benchmarks.report.charts
time_ratio, time_interval  # benchmarks.report.comparisons
by_class, by_size, by_place, empty_regions, false_alarms_interval, quiet_n  # benchmarks.results.frames
not_seen, coverage_interval  # the same
against_chosen, why, sensitivity, repeats, margins, corrected_accuracy, sentences  # benchmarks.choose
not_measured, aurc, abstained, measured_on, clean_interval, worst_class, known_abstained  # benchmarks.results
rank_changes, low_95, high_95, accuracy_loss, memory_gb, architecture, calls_per_turn, warm_ups_per_turn
p90_bound, p99_bound, p99_9, p99_9_bound  # core.stats.Summary

# attributes that a library reads
_.filters  # jinja2's environment
_.doc_string, _.producer_name, _.producer_version, _.ir_version  # ONNX's protobuf
_.log_severity_level, _.graph_optimization_level, _.inter_op_num_threads  # ONNX Runtime's session options
_.num_compute_capabilities, _.progress_monitor, _.profiling_verbosity, _.builder_optimization_level  # TensorRT's config
_.phase_start, _.phase_finish, _.step_complete, parent_phase  # TensorRT calls its progress monitor
_.accumulated_recompile_limit, _.recompile_limit  # torch._dynamo's configuration
_.allow_tf32, _._warned_capturable_if_run_uncaptured  # torch's backends and optimizers
_.__class__  # training.compute.weight_gradient: a convolution takes another class
_.MAX_IMAGE_PIXELS  # Pillow's limit
