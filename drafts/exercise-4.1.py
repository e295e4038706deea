@exercise("4.1")
def one_neuron(answer):
    eps = numbers(answer, shape=()).item()
    b = np.linspace(-0.99, 0.99, 20_001)
    g = wave(math.pi).g(torch.from_numpy(b)[:, None]).numpy()
    left = (1 - 3 * g**2 / (1 - b) ** 3).min()
    if not 0 < eps < 1:
        raise AssertionError("A relative error between 0 and 1: with a = 0 it is 1 already.")
    if math.isclose(eps, left, rel_tol=1e-3):
        raise AssertionError("This is ε²: the set is about the norm, not about its square.")
    if math.isclose(eps, math.sqrt(1 - left), rel_tol=1e-2):
        raise AssertionError("This is the norm of what the neuron explains; what does it leave?")
    close(
        eps,
        math.sqrt(left),
        rtol=2e-4,
        name="the relative error",
        hint="For each kink b the loss is a parabola in a. What does its minimum leave, and for "
        "which b the least?",
    )
    return "One neuron leaves almost everything; as it is broad, f oscillates away beneath it."
