"""What is kept of a forward is the last position alone, and no more memory than that."""

from vrp.vlm.prefill import Decoder, prepare
from vrp.vlm.residual import ResidualTap, attached


def test_reads_keep_no_other_positions_in_memory(vlm, items):
    prepared = prepare(vlm, items)
    tap = ResidualTap(n_layers=vlm.n_layers, hidden=True, components=True)
    with attached(vlm, tap):
        Decoder(vlm, prepared).prefill()
    kept = {
        "residuals": vlm.n_layers + 1,
        "attention_outputs": vlm.n_layers,
        "mlp_outputs": vlm.n_layers,
        "joined_heads": vlm.n_layers,
        "projected_heads": vlm.n_layers,
    }
    for name, n_kept in kept.items():
        tensors = getattr(tap, name)
        assert len(tensors) == n_kept
        for tensor in tensors:
            assert len(tensor) == len(items)
            assert tensor.untyped_storage().nbytes() == tensor.numel() * 4, name
