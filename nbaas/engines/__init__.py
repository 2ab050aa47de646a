"""Collectives and rendezvous behind one small interface."""
