"""The README's ten lines: a child that keeps its state, called by its id."""

import process_hub as ph


class Cart(ph.Child):
    """A shopping cart."""

    def start(self, ctx: ph.Context, args: list[str] | None) -> None:
        """Begin with what the cart was started with."""
        self.state = list(args or [])

    def handle(self, message: str) -> int:
        """Put something in; return how much is in it."""
        self.state.append(message)
        return len(self.state)


migration = ph.HotSwap(handover=True)
with ph.Hub("orders", kinds={"cart": Cart}, migration=migration) as hub:
    hub.start_child("cart:42", "cart", args=["sku1"]).result(timeout=5)
    print(hub.call("cart:42", "sku2"))  # -> 2
